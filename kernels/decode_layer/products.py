"""A few rows times a weight matrix, for either layout, by a team's members; in Numba.

One decode step reads every weight once and is bound by that. A matrix may lie
in-channel-major, [in, out], where a pruned input channel is a row that is not read, or
out-channel-major, [out, in]. Quantised ones are uint8 (4 bits) or int8 (8 bits), see
``kernels/quantised_weights``, and count as in-channel-major.
"""

import numpy as np
from numba.core import types

from kernels.cpu.compiling import by_types, fast_helper, helper
from kernels.cpu.numba_helpers import count_scales, quantise_blocks, widen
from kernels.cpu.team import meet
from kernels.cpu.vector_code import STREAM_ROWS, prefetch_numbers, stream_rows
from kernels.quantised_weights import BYTES_4, BYTES_8, LINE_WORDS
from kernels.quantised_weights.cpu import add_tiles_4, add_tiles_8, list_rows
from kernels.quantised_weights.vectors import HAS_INTEGERS, MOST_BITS

_LINE = 32  # numbers; tasks start at cache lines
_TILE = 2048  # outputs summed at a time: 8 kB that stay in the first cache


@helper
def range_of(task, tasks, width, line=_LINE):
    """The range [begin, end) of ``width`` outputs that a task computes; it begins at a multiple of
    ``line``."""
    lines = (width + line - 1) // line
    begin = lines * task // tasks * line
    end = lines * (task + 1) // tasks * line
    return min(begin, width), min(end, width)


@by_types
def outputs_of(weight):
    """Outputs of a matrix that lies in-channel-major."""
    if weight.dtype == types.uint8:
        return lambda weight: weight.shape[1] // BYTES_4
    if weight.dtype == types.int8:
        return lambda weight: weight.shape[1] // BYTES_8
    return lambda weight: weight.shape[1]


@by_types
def line_of(weight):
    """Outputs at whose multiples a task's range of a matrix may begin."""
    line = {types.uint8: 8 * LINE_WORDS, types.int8: 4 * LINE_WORDS}.get(weight.dtype, _LINE)
    return lambda weight: line


@helper
def list_channels(inputs):
    """Channels that are not zero in every row, as ``stream_rows`` wants them.

    Args:
        inputs: [R, in] float32.
    Returns: channels [n] int64 and their numbers [R, n] float32; n is a multiple of 2,
        filled up with a listed channel times 0.
    """
    num_rows, width = inputs.shape
    channels = np.empty(width + STREAM_ROWS, np.int64)
    scales = np.zeros((num_rows, width + STREAM_ROWS), np.float32)
    count = 0
    for channel in range(width):
        # Written whether or not it is used: a guess that fails takes as long as ten channels.
        used = inputs[0, channel] != np.float32(0.0)
        for row in range(1, num_rows):
            used |= inputs[row, channel] != np.float32(0.0)
        channels[count] = channel
        for row in range(num_rows):
            scales[row, count] = inputs[row, channel]
        count += used
    padded = (count + STREAM_ROWS - 1) // STREAM_ROWS * STREAM_ROWS
    for i in range(count, padded):
        channels[i] = channels[count - 1]
        scales[:, i] = np.float32(0.0)
    return channels[:padded], scales[:, :padded]


@by_types
def list_inputs(inputs, steps, weight):
    """Channels that are not zero in every row, as ``add_columns`` takes them for such a weight.

    Args:
        inputs: [R, in] float32, perhaps rounded to multiples of their steps.
        steps: [R, B] float32, of each block of channels, or [R, 1], of all; as ``round_rows``
            returns them, 0 where a row is multiplied in floats.
    """
    if weight.dtype in (types.uint8, types.int8):  # the steps of 8-bit weights are 0
        return lambda inputs, steps, weight: list_rows(inputs, steps)
    return lambda inputs, steps, weight: list_channels(inputs)


@by_types
def _multiplies_integers(weight):
    multiplies = weight.dtype == types.uint8 and HAS_INTEGERS
    return lambda weight: multiplies


@helper
def round_rows(rows, bit_widths, block, weight):
    """Quantise rows [R, C] where they are, ``block`` channels by one scale; 0: all.

    Returns: steps [R, B] float32 as ``list_inputs`` takes them, 0 where the product with such a
        weight is not one of integers. Levels of NaN and infinity would be any: they are multiplied
        in floats, and stay visible.
    """
    steps = np.empty((rows.shape[0], count_scales(rows.shape[1], block)), np.float32)
    for row in range(rows.shape[0]):
        bits = bit_widths[row]
        quantise_blocks(rows[row], bits, block, rows[row], steps[row])
        for number in range(steps.shape[1]):
            finite = steps[row, number] < np.float32(np.inf)
            if not (finite and bits <= MOST_BITS and _multiplies_integers(weight)):
                steps[row, number] = np.float32(0.0)
    return steps


@by_types
def add_columns(listed, weight, begin, outputs, ahead):
    """outputs[r, j] = Σ_i scales[r, i] · weight[channels[i], begin + j].

    Args:
        listed: channels and scales, as ``list_inputs`` returns them.
        weight: [in, out] float32, or bfloat16 as uint16 bit patterns, or quantised.
        begin: a multiple of ``line_of(weight)``.
        outputs: [R, J] float32, rows contiguous, overwritten.
        ahead: blocks of quantised weights, pairs of rows of others, prefetched.
    """
    chosen = {types.uint8: add_tiles_4, types.int8: add_tiles_8}.get(weight.dtype, _add_rows)
    return lambda listed, weight, begin, outputs, ahead: chosen(
        listed, weight, begin, outputs, ahead
    )


@helper
def _add_rows(listed, weight, begin, outputs, ahead):
    channels, scales = listed
    for start in range(0, outputs.shape[1], _TILE):
        stop = min(start + _TILE, outputs.shape[1])
        for row in range(outputs.shape[0]):
            outputs[row, start:stop] = np.float32(0.0)
        for first in range(0, channels.shape[0], STREAM_ROWS):
            for row in range(outputs.shape[0]):
                source, at = (weight, begin + start), (first, ahead)
                stream_rows(source, channels, scales[row], at, outputs[row, start:stop])


@by_types
def dot_columns(inputs, weight, begin, end, outputs, ahead):
    """outputs[r, o] = Σ_i inputs[r, i] · weight[o, i] for o in [begin, end).

    One output at a time, so that the weights are read as one stream.

    Args:
        inputs: [R, in] float32.
        weight: [out, in] float32, or 16-bit patterns as ``widen`` takes them; nothing is done
            with quantised ones, which never lie so.
        outputs: [R, out] float32.
        ahead: outputs from those that are read to those that are prefetched.
    """
    if weight.dtype in (types.uint8, types.int8):
        return lambda inputs, weight, begin, end, outputs, ahead: None
    return lambda inputs, weight, begin, end, outputs, ahead: _dot_rows(
        inputs, weight, begin, end, outputs, ahead
    )


@fast_helper
def _dot_rows(inputs, weight, begin, end, outputs, ahead):
    for out in range(begin, end):
        # The hardware's own guesses end with every page of 4 kB.
        width = weight.shape[1]
        prefetch_numbers(weight, min(out + ahead, end - 1) * width, width)
        for row in range(inputs.shape[0]):
            total = np.float32(0.0)
            for channel in range(width):
                total += inputs[row, channel] * widen(weight[out, channel])
            outputs[row, out] = total


@helper
def listed_range(listed, weight, outputs, team):
    """One member's outputs of listed channels times a matrix that lies in-channel-major."""
    begin, end = range_of(team.member, team.members, outputs.shape[1], line_of(weight))
    add_columns(listed, weight, begin, outputs[:, begin:end], team.ahead)


@helper
def product_range(inputs, weight, out_major, outputs, team):
    """One member's outputs of ``product``."""
    if out_major:
        begin, end = range_of(team.member, team.members, outputs.shape[1])
        dot_columns(inputs, weight, begin, end, outputs, team.ahead)
    else:
        steps = np.zeros((inputs.shape[0], 1), np.float32)
        listed_range(list_inputs(inputs, steps, weight), weight, outputs, team)


@helper
def product(inputs, weight, out_major, outputs, team):
    """``inputs @ weight`` of a few rows, accumulated in fp32; the members meet when it is done.

    The result does not depend on how many they are.

    Args:
        inputs: [R, in] float32, contiguous; every member's own, or read by all.
        weight: [out, in] if ``out_major``, else [in, out]; float32, or bfloat16 as uint16, or,
            if ``out_major``, finite float16 as int16; or quantised, if not ``out_major``.
        outputs: [R, out] float32, contiguous, the team's, overwritten.
    """
    product_range(inputs, weight, out_major, outputs, team)
    meet(team)
