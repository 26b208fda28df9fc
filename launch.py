#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK: the shell may ask this script for completions
"""Start the explorer: ``python launch.py`` opens the page, ``--help`` lists the rest.

Only the version check happens here, in a syntax that every Python reads, so that an
old one gets a sentence instead of a SyntaxError. ``app.cli.main`` does everything else.
"""

import sys

MINIMUM_PYTHON = (3, 11)  # the same as requires-python in pyproject.toml (a test compares them)


def main():
    """Run the command line; returns the exit status."""
    if sys.version_info < MINIMUM_PYTHON:
        sys.stderr.write(
            "error: this needs Python {}.{} or newer, but this is Python {}.{} ({}): "
            "install a newer Python and start launch.py with it\n".format(
                *(MINIMUM_PYTHON + tuple(sys.version_info[:2]) + (sys.executable,))
            )
        )
        return 1
    try:
        from app.cli.main import main as run_command_line

        return run_command_line(sys.argv[1:], owns_process=True)
    except KeyboardInterrupt:  # while this was imported
        sys.stderr.write("\ninterrupted: nothing is kept\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
