"""A few rows times a matrix of quantised weights, skipping dropped channels; in Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cpu.compiling import fast_helper, helper
from kernels.cpu.numba_helpers import TO_EVEN
from kernels.quantised_weights import BLOCK, BYTES_4, BYTES_8, LINE_WORDS
from kernels.quantised_weights.vectors import CHANNELS, HAS_INTEGERS, add_block, add_integers


@helper
def list_blocks(inputs):
    """Channels that are not zero in every row, by blocks.

    Args:
        inputs: [R, in] float32, in a multiple of 32.
    Returns: channels within their blocks [n] int64 and their numbers [R, n] float32, of which those
        of block b are begins[b] to begins[b + 1] − 1; begins [B + 1] int64; sums of the blocks'
        numbers [R, B] float32.
    """
    num_rows, width = inputs.shape
    within, numbers = np.empty(width, np.int64), np.empty((num_rows, width), np.float32)
    begins = np.empty(width // BLOCK + 1, np.int64)
    sums = np.empty((num_rows, width // BLOCK), np.float32)
    count = begins[0] = 0
    for channel in range(width):
        # Written whether or not it is used: a guess that fails takes as long as ten channels.
        used = inputs[0, channel] != np.float32(0.0)
        for row in range(1, num_rows):
            used |= inputs[row, channel] != np.float32(0.0)
        within[count] = channel % BLOCK
        for row in range(num_rows):
            numbers[row, count] = inputs[row, channel]
        count += used
        begins[channel // BLOCK + 1] = count
    _sum_blocks(inputs, sums)
    return within, numbers, begins, sums


@helper
def list_rows(inputs, steps):
    """Channels as ``add_tiles_4`` takes them: of each row as numbers, or as levels.

    Args:
        inputs: [R, in] float32, in a multiple of 32.
        steps: [R, B] float32, a block's numbers over its levels from −127 to 127, or [R, 1] for
            one step for all blocks; 0 where a block is multiplied in floats.
    Returns: those of ``list_blocks``, but for the sums empty if no row needs them; those of
        ``_list_levels``, likewise; steps.
    """
    num_rows, width = inputs.shape
    if steps.min() > np.float32(0.0):
        within, numbers = np.empty(0, np.int64), np.empty((0, 0), np.float32)
        begins, sums = within, np.empty((num_rows, width // BLOCK), np.float32)
        _sum_blocks(inputs, sums)
    else:
        within, numbers, begins, sums = list_blocks(inputs)
    channels, levels, ends = np.empty(0, np.int64), np.empty((0, 0), np.int8), begins
    if steps.max() > np.float32(0.0):
        channels, levels, ends = _list_levels(inputs, steps)
    return within, numbers, begins, sums, channels, levels, ends, steps


@helper
def _list_levels(inputs, steps):
    """Channels that are not zero in every row, by blocks, in fours.

    Returns: channels within their blocks [n] int64, filled up with a listed one at level 0, and
        their levels [R, n] int8; begins of the blocks [B + 1] int64.
    """
    num_rows, width = inputs.shape
    channels, levels = np.empty(width, np.int64), np.empty((num_rows, width), np.int8)
    begins = np.empty(width // BLOCK + 1, np.int64)
    factors = np.zeros(num_rows, np.float32)
    last = steps.shape[1] - 1
    count = begins[0] = 0
    for block in range(width // BLOCK):
        if block <= last:
            for row in range(num_rows):
                step = steps[row, block]
                factors[row] = np.float32(1.0) / step if step > np.float32(0.0) else step
        for within in range(BLOCK):
            used = False
            for row in range(num_rows):
                number = inputs[row, block * BLOCK + within]
                used |= number != np.float32(0.0)
                levels[row, count] = np.int8((number * factors[row] + TO_EVEN) - TO_EVEN)
            channels[count] = within
            # The last one of all is written where it stands: no list is longer than the row.
            count += used
        while count % CHANNELS:
            channels[count] = channels[count - 1]
            levels[:, count] = np.int8(0)
            count += 1
        begins[block + 1] = count
    return channels, levels, begins


@fast_helper
def _sum_blocks(inputs, sums):
    """Sums of [R, in] by blocks: not of the listed ones, one after another, which took longer than
    all else."""
    for row in range(sums.shape[0]):
        for block in range(np.uint64(sums.shape[1])):
            total = np.float32(0.0)
            for channel in range(np.uint64(BLOCK)):
                total += inputs[row, block * np.uint64(BLOCK) + channel]
            sums[row, block] = total


def _adder(bits: int, block_bytes: int) -> Any:
    """``products.add_columns`` for weights of so many bits; ``begin`` is where a tile begins."""
    per_word = 32 // bits
    with_integers = bits == 4 and HAS_INTEGERS

    @helper
    def add_tiles(listed, weight, begin, outputs, ahead):
        within, numbers, begins, sums, channels, levels, ends, steps = listed
        num_blocks, width = weight.shape[0], weight.shape[1] // block_bytes
        data = weight.reshape(weight.size)
        outputs[:] = np.float32(0.0)
        column, end, last = 0, outputs.shape[1], steps.shape[1] - 1
        while column < end:
            first = begin + column
            words = LINE_WORDS if width - first >= per_word * LINE_WORDS else LINE_WORDS // 2
            offset = first * num_blocks * block_bytes
            for block in range(num_blocks):
                later = (block + ahead) % num_blocks  # the next tile's, after the last one
                for row in range(outputs.shape[0]):
                    total, step = sums[row, block], steps[row, min(block, last)]
                    if with_integers and step > np.float32(0.0):
                        span = (ends[block], ends[block + 1], ends[later], ends[later + 1])
                        integers = (channels, levels, *span, total, step, words, ahead)
                        add_integers(data, offset, integers, row, outputs, column)
                        continue
                    span = (begins[block], begins[block + 1], begins[later], begins[later + 1])
                    floats = (within, numbers, *span, total, words, ahead)
                    add_block(data, offset, floats, row, outputs, column, bits)
                offset += per_word * words * block_bytes
            column += per_word * words

    return add_tiles


add_tiles_4, add_tiles_8 = _adder(4, BYTES_4), _adder(8, BYTES_8)
