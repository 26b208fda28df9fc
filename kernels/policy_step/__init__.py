"""A policy's step for a few rows on the CPU: one compiled call from observation to logits.

For a single row nearly all of a torch step is the calling of operations on a few hundred
numbers. The definition is ``sol_core/policy/network.py`` and ``prices.py``, which
training uses; ``tests/sol_core/policy/test_policy_step.py`` compares the two.
Levels of least damage + price · bytes (``sol_core/policy/byte_prices.py``) are defined here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.threads import cpu_kernel

KERNEL_AXES = 3
# Cost of a level that an axis does not have. Finite: an infinite one has no gradient.
NEVER = 1e6


def policy_step_kernel() -> Callable[..., None] | None:
    """``cpu.policy_step``, or None where Numba cannot run."""
    return cpu_kernel(f"{__name__}.cpu", "policy_step")


class ByteTerms(NamedTuple):
    """Terms of a choice at one price on bytes, besides what the network says; float64."""

    features: Any  # [R, F], of the episode so far. No rows: there is no such price
    history: Any  # [F, axes · 2], sensitivity and slope that these explain
    trust: Any  # [axes], fraction of the rest that counts
    positions: Any  # [axes, L], of the levels, from -½ to ½
    log_means: Any  # [R, axes, L], log of the mean damage beyond the floor, nats
    share_changes: Any  # [R, axes, L], bytes beyond a dense step's, as shares of those: 0 or less
    prices: Any  # [R], nats for all bytes of a dense step
    sharpness: Any  # [axes], logits per unit of cost

    @staticmethod
    def none() -> ByteTerms:
        """Terms of no rows."""
        vector, matrix, cube = (np.empty((0,) * axes) for axes in (1, 2, 3))
        return ByteTerms(matrix, matrix, vector, matrix, cube, cube, vector, vector)


def price_bytes(shapes: NDArray[np.float64], terms: ByteTerms) -> NDArray[np.float64]:
    """Logits of the levels; the greatest, 0, is the choice.

    Args:
        shapes: [R, axes, 2], sensitivity and slope of log damage that the network says.
    Returns: [R, axes, L].
    """
    explained = (terms.features @ terms.history).reshape(shapes.shape)
    counts = (shapes - explained) * terms.trust[:, None]
    damages = damages_beyond(counts, terms.log_means, terms.positions)
    costs = damages / terms.prices[:, None, None] + terms.share_changes
    below = (costs.min(-1, keepdims=True) - costs) * terms.sharpness[:, None]
    logits: NDArray[np.float64] = np.maximum(below, -NEVER)
    return logits


def damages_beyond(
    shapes: NDArray[np.float64], log_means: NDArray[np.float64], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[..., axes, 2] → [..., axes, L] nats beyond the floor, never rising with the level."""
    log_damages = log_means + shapes[..., :1] + shapes[..., 1:] * positions
    damages: NDArray[np.float64] = np.minimum.accumulate(np.exp(log_damages), -1)
    return damages
