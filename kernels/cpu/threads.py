"""Threads of Numba and torch on shared cores, and a check that Numba's kernels can run here.

Both libraries run their loops on an OpenMP pool and wait by spinning. On Linux, Numba's
calls usually land in the pool that torch brought along; then both simply use the same
number of threads. Where each has a pool of its own, the two would spin against each
other (on two cores a decode step took 22 to 60 ms instead of 23), so one of them is
held to a single thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import torch

# From here on a step's small operations go to Numba, each as one pass on all threads; below,
# calling and arranging cost as much as it saves.
MANY_ROWS = 16
# Distances worth trying, the default first, for weights that are quantised or not: in blocks of 32
# channels, or in pairs of rows. With 1 and 6 blocks a product took 1.1 times as long on an AVX-512
# AMD; an AVX2 one did not mind.
AHEAD = {True: (4, 1, 2, 3, 6, 8), False: (2, 1, 4, 8)}
_log = logging.getLogger(__name__)


class Tuning(NamedTuple):
    """Choices of a few-row step that suit its machine and change no number; arguments, so that a
    machine can try them without compiling anything again."""

    threads: int  # that a team is asked of
    ahead: int  # blocks of quantised weights, or pairs of rows of others, that are prefetched


def default_tuning(threads: int, *, quantised: bool) -> Tuning:
    """Tuning for a machine on which nothing was measured."""
    return Tuning(threads, AHEAD[quantised][0])


@cache
def cpu_kernel(module: str, name: str) -> Callable[..., None] | None:
    """A Numba function, or None where Numba cannot run (said once in the log).

    Args:
        module: full name of the ``cpu.py`` that holds it, imported here for the first time.
    """
    if why_no_kernels() is not None:
        return None
    try:
        kernel: Callable[..., None] = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        _log.warning("CPU kernel %s is off, torch is used instead: %s", name, error)
        return None
    return kernel


@cache
def why_no_kernels() -> str | None:
    """Reason why Numba's kernels cannot run here; None where they can."""
    try:
        import numba

        importlib.import_module("numba.np.ufunc.omppool")  # fails where there is no OpenMP
        # The work-queue layer aborts the process when two threads enter it; OpenMP does not.
        numba.config.THREADING_LAYER = "omp"  # type: ignore[attr-defined]  # set at run time
        one_pool()
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        _log.warning("CPU kernels are off, torch is used instead: %s", error)
        return str(error)
    return None


@cache
def one_pool() -> bool:
    """Return whether Numba's loops run on torch's OpenMP threads.

    Numba sets the thread count of *its* OpenMP when it starts; if torch's count follows,
    they are one. Started earlier by someone else, it answers no, which is safe.
    """
    import numba
    from numba.np.ufunc import parallel

    before = torch.get_num_threads()
    torch.set_num_threads(numba.config.NUMBA_NUM_THREADS + 1)  # type: ignore[attr-defined]
    try:
        parallel._launch_threads()  # type: ignore[no-untyped-call]
        _forbid_nested_loops()
        count: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        return torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)


def _forbid_nested_loops() -> None:
    """Numba lets parallel loops nest, for its whole OpenMP, when it starts; torch does not expect
    that: its attention calls matrix products inside a loop, and each of them then started threads
    of its own (one call of the policy's attention took 1,400 ms instead of 4).
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no OpenMP to be found
        ctypes.CDLL(None).omp_set_max_active_levels(1)


def kernel_threads() -> int:
    """Return the number of threads that a Numba kernel called now will use."""
    import numba

    count: int = numba.get_num_threads()
    return count


@contextlib.contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Leave the cores to Numba, for steps whose products are its."""
    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def torch_with_numba() -> Iterator[None]:
    """Have Numba join torch's threads, or keep to one, for steps whose products are torch's."""
    if why_no_kernels() is not None:
        yield
        return
    import numba

    shared = one_pool()
    before = numba.get_num_threads()
    limit: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(torch.get_num_threads(), limit) if shared else 1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
