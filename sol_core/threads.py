"""Threads that share the cores with other programs, and with other processes of a training."""

from __future__ import annotations

import os

# Turns that a thread of GNU OpenMP spins for before it sleeps. Its own default spins for
# milliseconds: beside any busy program, every loop then waits for a thread without a core.
SPIN_VARIABLE, SPIN_COUNT = "GOMP_SPINCOUNT", "1000"
_PROCESSES_HERE = "LOCAL_WORLD_SIZE"  # torchrun and accelerate set it for the processes they start


def share_cores() -> None:
    """Works before torch and Numba are imported; what the user or torchrun has set stays."""
    os.environ.setdefault(SPIN_VARIABLE, SPIN_COUNT)
    processes = os.environ.get(_PROCESSES_HERE, "")
    if processes.isdecimal() and int(processes) > 1:
        has_affinity = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        threads = max(1, cores // int(processes))
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        # Numba has a count of its own, which does not follow OpenMP's.
        os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"].split(",")[0])
