"""A few rows times a matrix of quantised weights, skipping dropped channels; in Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cpu.compiling import helper
from kernels.quantised_weights.layout import BLOCK, BYTES_4, BYTES_8, LINE_WORDS
from kernels.quantised_weights.vectors import add_block


@helper
def _list_blocks(channels, scales, num_blocks):
    """Begins of each block's channels in the list, and what their numbers sum up to.

    Args:
        channels, scales: as of ``products.list_channels``.
    Returns: channels within their blocks [n], begins [B + 1] int64, sums [R, B] float32.
    """
    num_rows, count = scales.shape
    within, begins = np.empty(count, np.int64), np.zeros(num_blocks + 1, np.int64)
    sums = np.zeros((num_rows, num_blocks), np.float32)
    for i in range(count):
        block = channels[i] // BLOCK
        within[i] = channels[i] % BLOCK
        begins[block + 1] = i + 1
        for row in range(num_rows):
            sums[row, block] += scales[row, i]
    for block in range(num_blocks):
        begins[block + 1] = max(begins[block + 1], begins[block])
    return within, begins, sums


def _adder(bits: int, block_bytes: int) -> Any:
    """``products.add_columns`` for weights of so many bits; ``begin`` is where a tile begins."""
    per_word = 32 // bits

    @helper
    def add_tiles(channels, scales, weight, begin, outputs, ahead):
        num_blocks, width = weight.shape[0], weight.shape[1] // block_bytes
        data = weight.reshape(weight.size)
        within, begins, sums = _list_blocks(channels, scales, num_blocks)
        outputs[:] = np.float32(0.0)
        column, end = 0, outputs.shape[1]
        while column < end:
            first = begin + column
            words = LINE_WORDS if width - first >= per_word * LINE_WORDS else LINE_WORDS // 2
            place = first * num_blocks * block_bytes
            for block in range(num_blocks):
                later = (block + ahead) % num_blocks  # the next tile's, after the last one
                for row in range(outputs.shape[0]):
                    span = (begins[block], begins[block + 1], begins[later], begins[later + 1])
                    listed = (within, scales[row], *span, sums[row, block], words, ahead)
                    add_block(data, place, listed, outputs[row], column, bits)
                place += per_word * words * block_bytes
            column += per_word * words

    return add_tiles


add_tiles_4, add_tiles_8 = _adder(4, BYTES_4), _adder(8, BYTES_8)
