"""Commands that work with models, runs, jobs and policies, one file each.

A module has ``HELP``, ``add_arguments`` and ``run``, before which its ``check`` looks at the
arguments, if it has one; it imports the engine when it runs.
Commands that start or check the program itself are in ``app.cli.program``.
"""
