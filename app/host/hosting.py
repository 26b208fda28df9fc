"""Kinds of hosting: a checkout or an installed copy, one's own machine, a Space, ZeroGPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sol_core.errors import ConfigError
from sol_core.files.paths import LAUNCHER

SPACE_VARIABLE = "SPACE_ID"  # set by Hugging Face Spaces
ZERO_GPU_VARIABLE = "SPACES_ZERO_GPU"  # set by Hugging Face on ZeroGPU Spaces
PUBLIC_VARIABLE = "SOL_PUBLIC"
PROJECT_ROOT = Path(__file__).resolve().parents[2]
_APP = __name__.removesuffix(".host.hosting")  # it has another name in a wheel


def is_space() -> bool:
    return bool(os.environ.get(SPACE_VARIABLE))


def is_zero_gpu() -> bool:
    """Return whether a GPU is lent to single calls only; read as ``spaces`` reads it."""
    return os.environ.get(ZERO_GPU_VARIABLE, "").lower() in ("1", "t", "true")


def is_public() -> bool:
    """Return whether strangers use this server: ``SOL_PUBLIC``, else on a Space."""
    chosen = os.environ.get(PUBLIC_VARIABLE, "").strip()
    if chosen not in ("", "0", "1"):
        raise ConfigError(
            f"{PUBLIC_VARIABLE} must be 1 (strangers use this server) or 0, got {chosen!r}"
        )
    return chosen == "1" if chosen else is_space()


def is_checkout(root: Path = PROJECT_ROOT) -> bool:
    """Return whether the packages lie beside ``launch.py``, not among an interpreter's packages."""
    return (root / LAUNCHER).is_file()


def program_command() -> list[str]:
    """Command that starts this copy of the program."""
    if is_checkout():
        return [sys.executable, str(PROJECT_ROOT / LAUNCHER)]
    # -P: a folder of the package's name in the current directory is not meant.
    return [sys.executable, "-P", "-m", _APP]
