"""Commands about the program itself: serve, worker, doctor and test.

They have the form of ``app.cli.commands``. The server and the worker that they start are in
``app.site`` and ``app.jobs``.
"""
