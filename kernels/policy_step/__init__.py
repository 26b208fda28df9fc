"""A policy's step for a few rows on the CPU: one compiled call from observation to logits.

For a single row nearly all of a torch step is the calling of operations on a few hundred
numbers. The definition is ``sol_core/policy/network.py`` and ``prices.py``, which
training uses; ``tests/sol_core/policy/test_policy_step.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from kernels.cpu.threads import cpu_kernel
from kernels.policy_step.reference import NEVER, ByteTerms, damages_beyond, price_bytes

__all__ = [
    "KERNEL_AXES",
    "NEVER",
    "ByteTerms",
    "damages_beyond",
    "policy_step_kernel",
    "price_bytes",
]

KERNEL_AXES = 3


@cache
def policy_step_kernel() -> Callable[..., None] | None:
    """``cpu.policy_step``, or None where Numba cannot run."""
    return cpu_kernel(f"{__name__}.cpu", "policy_step")
