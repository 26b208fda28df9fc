"""Threads that share the cores with other programs."""

import os

# Turns that a thread of GNU OpenMP spins for before it sleeps. Its own default spins for
# milliseconds: beside any busy program, every loop then waits for a thread without a core.
SPIN_VARIABLE, SPIN_COUNT = "GOMP_SPINCOUNT", "1000"


def limit_spinning() -> None:
    """Set them before torch and Numba are imported; what the user has set stays."""
    os.environ.setdefault(SPIN_VARIABLE, SPIN_COUNT)
