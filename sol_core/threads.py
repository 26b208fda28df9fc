"""Threads that share the cores with other programs."""

from __future__ import annotations

import os

__all__ = ["SPIN_VARIABLE", "share_cores"]

# Turns that a thread of GNU OpenMP spins for before it sleeps. Its own default spins for
# milliseconds: beside any busy program, every loop then waits for a thread without a core.
SPIN_VARIABLE, SPIN_COUNT = "GOMP_SPINCOUNT", "1000"


def share_cores() -> None:
    """Let waiting threads sleep soon, unless the user has set how long they spin.

    Works before torch is imported, which reads it; afterwards it changes nothing.
    """
    os.environ.setdefault(SPIN_VARIABLE, SPIN_COUNT)
