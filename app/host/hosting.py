"""Kinds of hosting: one person's machine, a Hugging Face Space, ZeroGPU."""

from __future__ import annotations

import os

from sol_core.errors import ConfigError

SPACE_VARIABLE = "SPACE_ID"  # set by Hugging Face Spaces
ZERO_GPU_VARIABLE = "SPACES_ZERO_GPU"  # set by Hugging Face on ZeroGPU Spaces
PUBLIC_VARIABLE = "SOL_PUBLIC"


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
