"""``sol-explorer``, and ``python -m`` with this package's name: commands of an installed copy."""

# PYTHON_ARGCOMPLETE_OK: the shell may ask for completions

import sys

from app.cli.main import main as run_command_line


def main() -> int:
    """Run the command line; returns the exit status."""
    return run_command_line(sys.argv[1:], owns_process=True)


if __name__ == "__main__":
    sys.exit(main())
