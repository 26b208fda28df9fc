"""The commands of ``launch.py``, one file each.

Each is named after its command and has ``HELP``, ``add_arguments(parser)`` and
``run(args)``, which returns the exit status. Through ``parser.set_defaults`` it may add
``check(args)``, which runs before any package is needed, and say what it needs: ``extras``,
``install``, ``passes_rest_on``.
"""
