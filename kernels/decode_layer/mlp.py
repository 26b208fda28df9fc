"""The MLP half of a layer for a few rows: norm, pruning, gate and up, down, residual; in Numba.

A pruned channel's weights are not read. A team's members share two products, gate and up with
their activation, then down; what lies between takes a few microseconds and each does it alone.
A thread reads memory fastest where it lies together, so a copy of gate and up may be cut into
blocks of outputs, one for each thread (``in_blocks``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import (
    activate_row,
    add_update,
    copy_rows,
    keep_heaviest_row,
    keep_largest_row,
    norm_row,
)
from kernels.cpu.team import meet
from kernels.decode_layer.products import (
    add_columns,
    line_of,
    list_inputs,
    outputs_of,
    range_of,
    round_rows,
)
from kernels.page_attention.scratch import shaped


class MlpWeights(NamedTuple):
    """One layer's; matrices are float32, bfloat16 as uint16 bit patterns, or quantised."""

    norm: Any  # [C] float32
    # [C, 2·I], contiguous: gate, then up; if ``blocks`` is above 0, that many blocks of outputs one
    # after another, each of them so.
    gate_up: Any
    blocks: int
    down: Any  # [I, C], in blocks as ``gate_up`` is
    output_norm: Any  # [C] float32, of the MLP's output; empty for none
    gelu: bool  # tanh-approximated GELU instead of SiLU
    epsilon: Any
    down_norms: Any  # [I] float32, norms of down's rows


def in_blocks(matrix: Any, blocks: int, sides: int = 1) -> Any:
    """A matrix [in, out] cut into so many blocks of outputs, one after another: a contiguous copy.

    Args:
        sides: matrices that lie side by side, such as gate and up; a block has some of each.
    """
    width = matrix.shape[1] // sides
    spans = [range_of.py_func(block, blocks, width) for block in range(blocks)]
    cut = matrix.reshape(-1, sides, width)
    return np.concatenate([cut[..., begin:end].ravel() for begin, end in spans]).reshape(
        matrix.shape
    )


@helper
def _columns(listed, matrix, blocks, sides, columns, outputs, ahead):
    """Listed channels times some outputs of matrices that lie side by side.

    Args:
        matrix, blocks: as of MlpWeights, whose blocks have the same columns.
        columns: [begin, end) of each side.
        outputs: [R, sides · (end − begin)] float32, overwritten.
    """
    (begin, end), height = columns, matrix.shape[0]
    count, width = end - begin, outputs_of(matrix) // sides
    if blocks > 0:
        flat = matrix.reshape(matrix.size)[sides * height * begin : sides * height * end]
        add_columns(listed, flat.reshape(height, sides * count), 0, outputs, ahead)
        return
    for side in range(sides):
        out = outputs[:, side * count : (side + 1) * count]
        add_columns(listed, matrix, side * width + begin, out, ahead)


@helper
def _gate_up_range(team, listed, gate_up, blocks, gelu, both, inner):
    """Gate, up and activation of the outputs that one member computes.

    Args:
        listed: as ``list_inputs`` returns them.
        gate_up, blocks: as of MlpWeights.
        both: [R, 2·I] float32, scratch.
        inner: [R, I] float32, overwritten.
    """
    pieces = blocks if blocks > 0 else team.members
    for piece in range(team.member, pieces, team.members):
        begin, end = range_of(piece, pieces, inner.shape[1], line_of(gate_up))
        some = both[:, 2 * begin : 2 * end]
        _columns(listed, gate_up, blocks, 2, (begin, end), some, team.ahead)
        for row in range(inner.shape[0]):
            gate, up = some[row, : end - begin], some[row, end - begin :]
            activate_row(gate, up, gelu, inner[row, begin:end])


@helper
def _down_range(team, listed, down, blocks, output):
    """Outputs of down that one member computes, of listed inner channels; as ``_gate_up_range``."""
    pieces = blocks if blocks > 0 else team.members
    for piece in range(team.member, pieces, team.members):
        begin, end = range_of(piece, pieces, output.shape[1], line_of(down))
        _columns(listed, down, blocks, 1, (begin, end), output[:, begin:end], team.ahead)


@helper
def mlp_rows(hidden, weights, kept_channels, rounding, scratch, team):
    """Add the MLP of one decode step to the residual stream.

    Args:
        hidden: [R, C] float32, contiguous, this member's own, changed.
        weights: MlpWeights.
        kept_channels: input and inner channels that each row keeps, [R] int64 each; C and I for
            all.
        rounding: bit widths [R] int64, 16 for untouched; whether the pruned input and down's input
            are quantised, not the output; channels that share a scale, 0 for all. 4-bit weights
            are multiplied in integers with inputs of at most 8 bits, where the CPU has such
            products. Sums of 32 channels are exact; they differ from the float ones by rounding.
        scratch: Scratch, the team's.
    """
    gate_up, blocks, gelu = weights.gate_up, weights.blocks, weights.gelu
    channels_kept, inner_kept = kept_channels
    bit_widths, at_input, block = rounding
    num_rows, width = hidden.shape[0], outputs_of(gate_up)
    normed, kept = np.empty_like(hidden), np.empty_like(hidden)
    steps = np.zeros((num_rows, 1), np.float32)
    for row in range(num_rows):
        norm_row(hidden[row], weights.norm, weights.epsilon, normed[row])
        keep_largest_row(normed[row], channels_kept[row], kept[row])
    if at_input:
        steps = round_rows(kept, bit_widths, block, gate_up)
    listed = list_inputs(kept, steps, gate_up)
    both = shaped(scratch.both, (num_rows, width))
    activated = shaped(scratch.inner, (num_rows, width // 2))
    _gate_up_range(team, listed, gate_up, blocks, gelu, both, activated)
    meet(team)
    inner = activated.copy()
    for row in range(num_rows):
        if inner_kept[row] < inner.shape[1]:
            keep_heaviest_row(inner[row], weights.down_norms, inner_kept[row], inner[row])
    if at_input:
        steps = round_rows(inner, bit_widths, block, gate_up)
    update = shaped(scratch.update, hidden.shape)
    _down_range(team, list_inputs(inner, steps, weights.down), weights.down, blocks, update)
    meet(team)
    copy_rows(update, kept)
    if not at_input:
        round_rows(kept, bit_widths, block, gate_up)
    for row in range(num_rows):
        add_update(hidden[row], kept[row], weights.output_norm, weights.epsilon)
