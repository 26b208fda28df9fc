"""Command that starts this copy of the program. Standard library only."""

from __future__ import annotations

import sys
from pathlib import Path

from sol_core.files.places import LAUNCHER

PROJECT_ROOT = Path(__file__).resolve().parents[2]
_APP = __name__.removesuffix(".host.program")  # it has another name in a wheel


def is_checkout(root: Path = PROJECT_ROOT) -> bool:
    """Return whether the packages lie beside ``launch.py``, not among an interpreter's packages."""
    return (root / LAUNCHER).is_file()


def program_command() -> list[str]:
    """The same as a command for a child process."""
    if is_checkout():
        return [sys.executable, str(PROJECT_ROOT / LAUNCHER)]
    # -P: a folder of the package's name in the current directory is not meant.
    return [sys.executable, "-P", "-m", _APP]
