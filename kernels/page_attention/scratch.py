"""Memory in which a team's members hand each other the in-between results of a step; in Numba.

One piece of memory for all layers. A member that overwrites a part has met the others since they
read it: at least one meeting lies between two uses of a part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.cpu.addresses import line_at
from kernels.cpu.compiling import helper
from kernels.page_attention.group_attention import CHOSEN_TOKENS, parts_for

_LINE = 16  # float32 in a cache line of 64 bytes
_PAGES = np.empty(0, np.int32)  # for its type


class Sizes(NamedTuple):
    """Sizes of a step; 0 for those that attention alone does not have."""

    rows: int
    heads: int  # of queries
    head_size: int
    pages: int  # the most that a row has
    page_size: int  # tokens per page
    channels: int  # C
    width: int  # of queries, keys and values together
    inner: int  # I, the most of any layer


class Scratch(NamedTuple):
    """Parts of the memory, flat, float32 but for the last; N are the parts of a row's pages, M the
    most parts of those that it reads."""

    heads: Any  # [R, width], queries, keys and values as the product leaves them
    update: Any  # [R, C], what half a layer adds to the residual stream
    both: Any  # [R, 2 I], gate and up
    inner: Any  # [R, I], their activation
    masses: Any  # [R, H, P], of pages
    outside: Any  # [R, H], mass outside the best pages
    page_tops: Any  # [N, R, H], largest scores of the parts in which pages are weighed
    page_totals: Any  # and their sums of masses
    tops: Any  # [M, R, H]; this and the next four: see ``attend_parts``
    totals: Any  # [M, R, H]
    sums: Any  # [M, R, H, D]
    read: Any  # [M, R, Hkv]
    chosen: Any  # [R, Hkv, 1 + P] int32


@helper
def _counts(sizes):
    """Numbers of each part, in order."""
    heads, inner = sizes.rows * sizes.heads, sizes.rows * sizes.inner
    halves = sizes.rows * sizes.width, sizes.rows * sizes.channels, 2 * inner, inner
    weighed = heads * parts_for(sizes.pages, sizes.page_size)
    read = heads * parts_for(sizes.pages, sizes.page_size, CHOSEN_TOKENS)
    return (
        *halves,
        *(heads * sizes.pages, heads, weighed, weighed),
        *(read, read, read * sizes.head_size, read),
        heads * (1 + sizes.pages),
    )


@helper
def _rounded(count):
    return (count + _LINE - 1) // _LINE * _LINE


@helper
def floats_of(sizes):
    """float32 numbers that the memory needs."""
    total = 0
    for count in _counts(sizes):
        total += _rounded(count)
    return total


@helper
def shaped(part, shape):
    """The first numbers of a part as an array of a shape."""
    count = 1
    for size in shape:
        count *= size
    return part[:count].reshape(shape)


@helper
def scratch_at(address, sizes, single):
    """The parts of the memory at an address; ``single`` is an array of float32."""
    counts = _counts(sizes)
    begins = np.empty(len(counts), np.int64)
    begin = address
    for part in range(len(counts)):
        begins[part] = begin
        begin += 4 * _rounded(counts[part])
    return Scratch(
        line_at(begins[0], counts[0], single), line_at(begins[1], counts[1], single),
        line_at(begins[2], counts[2], single), line_at(begins[3], counts[3], single),
        line_at(begins[4], counts[4], single), line_at(begins[5], counts[5], single),
        line_at(begins[6], counts[6], single), line_at(begins[7], counts[7], single),
        line_at(begins[8], counts[8], single), line_at(begins[9], counts[9], single),
        line_at(begins[10], counts[10], single), line_at(begins[11], counts[11], single),
        line_at(begins[12], counts[12], _PAGES),
    )  # fmt: skip
