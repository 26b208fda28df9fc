"""The head of a decode step of a few rows: whole, or previewed and then exact where it counts."""

from __future__ import annotations

import numpy as np
from numba.core import types

from kernels.cpu.compiling import by_types, fast_helper, helper
from kernels.cpu.numba_helpers import widen
from kernels.cpu.team import meet
from kernels.cpu.vector_softmax import largest
from kernels.decode_layer.products import (
    list_inputs,
    listed_range,
    product,
    range_of,
    round_rows,
)
from kernels.head_preview import MARGIN, STATE_BITS
from kernels.quantised_weights import BLOCK, KINDS

_BLOCK_BYTES = KINDS["Q8_0"][1]
_MARGIN = np.float32(MARGIN)


@helper
def head_rows(hidden, head, out_major, preview, logits, team):
    """Logits of a few rows; the members meet when they are done.

    Args:
        hidden: [R, C] float32, normed.
        head, out_major: as ``product`` takes them.
        preview: packed weights, directions and exact weights of a ``HeadPreview``, and which rows
            are previewed, [R] bool; none may be unless ``head`` is quantised.
        logits: [R, V] float32, the team's, overwritten.
    """
    alike, previewed = True, preview[3]
    for row in range(1, hidden.shape[0]):
        alike &= previewed[row] == previewed[0]
    step = hidden.shape[0] if alike else 1  # rows that are alike read the weights once
    for begin in range(0, hidden.shape[0], step):
        some, out = hidden[begin : begin + step], logits[begin : begin + step]
        if previewed[begin]:
            preview_rows(some, head, preview, out, team)
        else:
            product(some, head, out_major, out, team)


@by_types
def preview_rows(hidden, head, preview, logits, team):
    """Logits of rows that are previewed."""
    if head.dtype != types.int8:  # nothing more to compile for other weights
        return lambda hidden, head, preview, logits, team: None
    return lambda hidden, head, preview, logits, team: _in_two_passes(hidden, preview, logits, team)


@helper
def _in_two_passes(hidden, preview, logits, team):
    packed, directions, exact, _ = preview
    num_rows = hidden.shape[0]
    extended = np.empty((num_rows, hidden.shape[1] + directions.shape[1]), np.float32)
    for row in range(num_rows):
        _extend(hidden, directions, row, extended)
    steps = round_rows(extended, np.full(num_rows, STATE_BITS), BLOCK, packed)
    listed_range(list_inputs(extended, steps, packed), packed, logits, team)
    meet(team)
    least = np.empty(num_rows, np.float32)
    for row in range(num_rows):
        least[row] = largest(logits, row, 0, logits.shape[1]) - _MARGIN
    meet(team)  # everybody has seen the preview before it is written over
    begin, end = range_of(team.member, team.members, logits.shape[1])
    for row in range(num_rows):
        for out in range(begin, end):
            if logits[row, out] >= least[row]:
                logits[row, out] = _exact(exact, out, hidden, row)
    meet(team)


@fast_helper
def _extend(hidden, directions, row, extended):
    """A state [C], and its parts along the directions [C, D]: [C + D]."""
    width = hidden.shape[1]
    for direction in range(directions.shape[1]):
        extended[row, width + direction] = np.float32(0.0)
    for channel in range(width):
        state = extended[row, channel] = hidden[row, channel]
        for direction in range(directions.shape[1]):
            extended[row, width + direction] += state * directions[channel, direction]


@fast_helper
def _exact(exact, out, hidden, row):
    """One output of a head in blocks of the kind Q8_0: a float16 scale, then 32 int8."""
    total = np.float32(0.0)
    for block in range(hidden.shape[1] // BLOCK):
        begin, first = block * _BLOCK_BYTES, block * BLOCK
        scale = np.int64(exact[out, begin]) + 256 * np.int64(exact[out, begin + 1])
        part = np.float32(0.0)
        for channel in range(BLOCK):
            code = np.int8(exact[out, begin + 2 + channel])
            part += np.float32(code) * hidden[row, first + channel]
        total += widen(np.int16(scale)) * part
    return total
