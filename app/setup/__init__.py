"""Python packages of a checkout: found, installed into ``.venv``, diagnosed.

Runs before anything else is imported, on the standard library alone. What the program needs
besides packages is in ``app.host``.
"""
