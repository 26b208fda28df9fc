"""Static mixes by share of the dense bytes: the action that ``bench decode`` runs at each share.

Counted from the arrays that a step of this model reads. Of a quantised matrix, scales and minima
are read whatever is pruned, and the codes' lines of kept channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kernels.page_scorers import PagesToScore
from kernels.quantised_weights.layout import BLOCK, BYTES_4, BYTES_8
from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.models import FrozenLM
from sol_core.models.step.plan import mlp_channels, pages_kept
from sol_core.models.weights import Linear

_LEAST_KEPT = 0.1  # of attention, before channels are pruned: those cost more of the quality
_HEADS = 4  # bytes of an output's scale and minimum, in a block of 32 channels


class Mix(NamedTuple):
    """A static action, and the share of the dense step's bytes that its step reads."""

    action: Action
    share: float


def mix_for_share(lm: FrozenLM, grid: ActionGrid, share: float, context: int) -> Mix:
    """The mildest mix within a share of the bytes; if there is none, the one of fewest bytes.

    Attention is reduced first, to a tenth, then the MLP, to the grid's lowest level.

    Args:
        share: of the dense step's bytes, in (0, 1].
        context: tokens that the step attends over.
    """
    dense = step_bytes(lm, grid, DENSE, context)
    best = Mix(DENSE, 1.0)
    for action in _milder_first(grid):
        mix = Mix(action, step_bytes(lm, grid, action, context) / dense)
        best = min(best, mix, key=lambda made: made.share)
        if mix.share <= share:
            return mix
    return best


def _milder_first(grid: ActionGrid) -> Iterator[Action]:
    yield DENSE
    for percent in range(99, round(100 * _LEAST_KEPT) - 1, -1):
        yield Action(percent / 100, 1.0)
    for percent in range(99, round(100 * grid.channel_keep_ratios[0]) - 1, -1):
        yield Action(_LEAST_KEPT, percent / 100)


def step_bytes(lm: FrozenLM, grid: ActionGrid, action: Action, context: int) -> float:
    """Bytes of weights and cache that a step of one row reads.

    Args:
        context: tokens that it attends over.
    """
    quantised, spec = bool(lm.steps_are_quantised), lm.spec
    entering, inner = mlp_channels(action, spec, grid.mechanisms)
    read = _matrix(lm.weights.head, 1.0, quantised)
    for layer in lm.weights.layers:
        for linear in (layer.query_key_value, layer.attention_output):
            read += _matrix(linear, 1.0, quantised)
        read += _matrix(layer.gate_up, entering / spec.hidden_size, quantised)
        read += _matrix(layer.down, inner / spec.intermediate_size, quantised)
    for window in spec.windows:
        read += _cache(lm, grid, action, min(context, window or context))
    return read


def _matrix(linear: Linear, kept: float, quantised: bool) -> float:
    """Bytes of a share of a matrix's input channels."""
    numbers = linear.weight.numel()
    if not quantised or linear.blocks is None:
        return numbers * linear.weight.itemsize * kept
    size = BYTES_4 if linear.blocks.bits == 4 else BYTES_8
    return numbers / BLOCK * (_HEADS + (size - _HEADS) * kept)


def _cache(lm: FrozenLM, grid: ActionGrid, action: Action, visible: int) -> float:
    """Bytes of one layer's keys and values, and of what its pages are chosen by."""
    spec, itemsize = lm.spec, lm.dtype.itemsize
    pages = -(-visible // grid.page_size)
    kept = pages_kept(action.keep_fraction, visible, grid.page_size)
    read = 2.0 * spec.kv_width * itemsize * min(visible, kept * grid.page_size)
    if kept == pages:
        return read
    widths = spec.query_width, spec.kv_width, spec.num_kv_heads
    return read + grid.mechanisms.scorer.cost(PagesToScore(*widths, visible, pages, itemsize))[1]
