"""Setting up the Python environment: requirements, the ``.venv`` folder, and pip.

Standard library only; ``app.bootstrap`` decides, these carry out.
"""
