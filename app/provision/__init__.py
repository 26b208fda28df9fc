"""Setting up the Python environment: requirements, the ``.venv`` folder, and pip.

Standard library only: they run before any package is there. ``app.bootstrap`` decides, these
carry out.
"""
