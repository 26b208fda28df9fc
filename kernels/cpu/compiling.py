"""Ways to compile the CPU kernels that keep a first start short; in Numba.

Numba makes an entry from Python and one from C for each function, and links whatever a function
calls into its own module and optimises it again: three times over for a loop on all threads. What
only compiled code calls has no entries here and no code of its own (``linked_code``), and a loop
calls all of a step by its address (``team_call``).
"""

from __future__ import annotations

import functools
from typing import Any

import numba

from kernels.cpu.linked_code import LinkedCompiler, TeamCompiler

# Sums may be reordered (that is what vectorises them); NaN and inf keep their meaning.
FAST_SUMS = {"reassoc", "contract", "nsz"}
_LINKED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True,
                           "pipeline_class": LinkedCompiler}  # fmt: skip

# A function that Python calls; one that runs on all threads.
kernel = functools.partial(numba.njit, nogil=True, cache=True, error_model="numpy")
team_kernel = functools.partial(kernel, parallel=True, pipeline_class=TeamCompiler)
# A function that only compiled code calls; with reordered sums.
helper = numba.njit(nogil=True, error_model="numpy", **_LINKED)
fast_helper = numba.njit(nogil=True, error_model="numpy", fastmath=FAST_SUMS, **_LINKED)
