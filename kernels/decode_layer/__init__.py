"""A decode step of a few rows on the CPU: one compiled call that skips what is dropped.

Little besides reading weights and keys is left: ``step.py`` runs the layers on all threads, each as
two halves between two readings of the residual stream (``attention.py``, ``mlp.py``). The
definition is the composition of the other folders' references, as
``sol_core/models/decoder.py`` runs it; ``tests/kernels/test_decode_layer.py`` compares the two.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from kernels.cpu.threads import cpu_kernel

DTYPES = (torch.float32, torch.bfloat16)
# Whether compiled code can time its own parts; see ``ticks_now``.
HAS_TICKS = platform.machine().lower() in ("x86_64", "amd64")
MOST_HEADS = 64  # of a group: each has a bit that says which pages it chose


def few_row_kernel() -> Callable[..., None] | None:
    """``run_as_team`` of ``step.run_member``, or None where Numba cannot run; the log says why."""
    member = cpu_kernel(f"{__name__}.step", "run_member")
    if member is None:
        return None
    from kernels.cpu.team import run_as_team

    return partial(run_as_team, member)


@cache
def multiplies_quantised() -> bool:
    """Return whether this CPU widens float16 by an instruction, as quantised weights need."""
    from kernels.cpu.numba_helpers import cpu_has

    return platform.machine().lower() in ("aarch64", "arm64") or cpu_has("f16c")


def lies_out_major(weight: Tensor) -> bool | None:
    """Return the memory order of a matrix addressed as [in, out]; None when neither order fits."""
    if weight.is_contiguous():
        return False
    return True if weight.t().is_contiguous() else None
