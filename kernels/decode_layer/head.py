"""The head of a decode step of a few rows: whole, or previewed and then exact where it counts."""

import numpy as np
from numba.core import types

from kernels.cpu.compiling import by_types, fast_helper, helper
from kernels.cpu.numba_helpers import widen
from kernels.cpu.team import meet
from kernels.cpu.vector_octets import prefetch_row
from kernels.cpu.vector_softmax import largest
from kernels.decode_layer.products import (
    list_inputs,
    listed_range,
    product,
    product_range,
    range_of,
    round_rows,
)
from kernels.head_preview import MARGIN, MOST_RESCORED, STATE_BITS
from kernels.quantised_weights import BLOCK, KINDS

_BLOCK_BYTES = KINDS["Q8_0"][1]
_MARGIN = np.float32(MARGIN)


@helper
def head_rows(hidden, head, out_major, preview, logits, team):
    """Logits of a few rows; the members meet when they are done.

    Args:
        hidden: [R, C] float32, normed.
        head, out_major: as ``product`` takes them.
        preview: packed weights, directions and exact weights of a ``HeadPreview``; which rows are
            previewed, [R] bool, none of them unless ``head`` is quantised; and [R] int64,
            overwritten by how many of a row's outputs are exact, if it is previewed.
        logits: [R, V] float32, the team's, overwritten.
    """
    alike, previewed = True, preview[3]
    for row in range(1, hidden.shape[0]):
        alike &= previewed[row] == previewed[0]
    step = hidden.shape[0] if alike else 1  # rows that are alike read the weights once
    for begin in range(0, hidden.shape[0], step):
        some, out = hidden[begin : begin + step], logits[begin : begin + step]
        if previewed[begin]:
            preview_rows(some, head, preview, out, preview[4][begin:], team)
        else:
            product(some, head, out_major, out, team)


@by_types
def preview_rows(hidden, head, preview, logits, counts, team):
    if head.dtype != types.int8:  # nothing more to compile for other weights
        return lambda hidden, head, preview, logits, counts, team: None
    return _in_two_passes


def _in_two_passes(hidden, head, preview, logits, counts, team):
    packed, directions, exact, _, _ = preview
    num_rows = hidden.shape[0]
    extended = np.empty((num_rows, hidden.shape[1] + directions.shape[1]), np.float32)
    for row in range(num_rows):
        _extend(hidden, directions, row, extended)
    steps = round_rows(extended, np.full(num_rows, STATE_BITS), BLOCK, packed)
    listed_range(list_inputs(extended, steps, packed), packed, logits, team)
    meet(team)
    least, likely = np.empty(num_rows, np.float32), np.empty(num_rows, np.int64)
    for row in range(num_rows):
        least[row] = largest(logits, row, 0, logits.shape[1]) - _MARGIN
        likely[row] = _count_from(logits, row, least[row])
        if likely[row] > MOST_RESCORED:
            likely[row] = logits.shape[1]
        if team.member == 0:
            counts[row] = likely[row]
    meet(team)  # everybody has seen the preview before it is written over
    begin, end = range_of(team.member, team.members, logits.shape[1])
    listed = np.empty(end - begin + 1, np.int64)
    for row in range(num_rows):
        if likely[row] == logits.shape[1]:
            product_range(hidden[row : row + 1], head, False, logits[row : row + 1], team)
            continue
        count = _list_from(logits, row, begin, end, least[row], listed)
        for k in range(count):
            # Rows are scattered: each is read ahead while two others are multiplied.
            prefetch_row(exact, listed[min(k + 2, count - 1)])
            logits[row, listed[k]] = _exact(exact, listed[k], hidden, row)
    meet(team)


@helper
def _list_from(logits, row, begin, end, least, listed):
    """List the outputs whose logits reach ``least``; returns how many."""
    count = 0
    for out in range(begin, end):
        listed[count] = out
        count += logits[row, out] >= least
    return count


@fast_helper
def _count_from(logits, row, least):
    count = np.int32(0)
    for out in range(np.uint64(logits.shape[1])):
        count += np.int32(logits[row, out] >= least)
    return np.int64(count)


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
    # Unsigned, for Numba counts negative indices from the end, which no vector can: twice as slow.
    out, row, total = np.uint64(out), np.uint64(row), np.float32(0.0)
    for block in range(np.uint64(hidden.shape[1] // BLOCK)):
        begin, first = block * np.uint64(_BLOCK_BYTES), block * np.uint64(BLOCK)
        scale = np.int64(exact[out, begin]) + 256 * np.int64(exact[out, begin + np.uint64(1)])
        part = np.float32(0.0)
        for channel in range(np.uint64(BLOCK)):
            code = np.int8(exact[out, begin + np.uint64(2) + channel])
            part += np.float32(code) * hidden[row, first + channel]
        total += widen(np.int16(scale)) * part
    return total
