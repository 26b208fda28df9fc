"""Pages of a KV cache chosen for each row, and attention to them, by a team; in Numba.

The same choice and attention as ``reference.py``, for rows whose tokens lie in at most two blocks:
first those of a prefix that several rows share, then the row's own. A step of a few rows calls this
in each layer (``decode_layer/attention.py``), ``cpu.py`` for many rows of one layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.cpu.compiling import helper
from kernels.page_attention.group_attention import (
    attend_parts,
    chooses_pages,
    parts_for,
    parts_of_step,
    seen_pages,
)
from kernels.page_attention.page_mass import find_pages, list_chosen
from kernels.page_attention.scratch import shaped


class CacheBlock(NamedTuple):
    """Keys and values of sequences side by side; token t of (sequence, head) pair n is
    line ``n · capacity + t``."""

    keys: Any  # [X, D] float32, or bfloat16 as uint16 bit patterns
    values: Any  # likewise
    capacity: int
    codes: Any  # [Z, 4 D] uint8, octets of 4-bit keys; o of pair n is line n · octet_capacity + o
    scales: Any  # [Z, 16] uint16
    octet_capacity: int


class StepRows(NamedTuple):
    """Pages and tokens that each of R rows may read at this step; int64 arrays [R]."""

    first_seen: Any  # first token, counted through both blocks, that attention sees
    # Each KV head reads so many; if the row has more, those whose need reaches the floor, at least
    # one.
    pages_kept: Any
    floors: Any  # [R] float32, see ``AttentionPlan``
    sources: Any  # sequence of the shared block that the row continues
    shared_tokens: Any  # how many of its tokens, whole pages; 0 without a shared block
    own_tokens: Any  # in the row's own memory, before this step's
    page_size: int  # tokens per page
    num_kv_heads: int  # Hkv
    scale: Any  # float32 factor on query·key
    extend: bool  # take the new key among the 4-bit keys
    best_fraction: float  # of the pages, for the mass outside; 0 when it is not asked for
    left_out: Any  # [R, P] uint8, 1 for a page not to be read, oldest first; [R, 0] if all may be


@helper
def most_pages(shared_tokens, own_tokens, page_size):
    """The most pages that any row has, this step's token included."""
    pages = 0
    for row in range(own_tokens.shape[0]):
        pages = max(pages, (shared_tokens[row] + own_tokens[row]) // page_size + 1)
    return pages


@helper
def _note_readers(chosen, rows, readers):
    """Key-value heads that read each page."""
    for row in range(chosen.shape[0]):
        first, last = seen_pages(rows, row)
        some = chooses_pages(rows, row, last - first)
        for head in range(rows.num_kv_heads):
            pages = chosen[row, head]
            for at in range(np.int64(pages[0]) if some else last - first):
                page = np.int64(pages[1 + at]) if some else at
                readers[row, head, first + page] = np.uint8(1)


@helper
def _choose(query, blocks, rows, scratch, team):
    """List the pages that each KV head reads [R, Hkv, 1 + P] int32, see ``attend_parts``."""
    num_rows, num_heads, _ = query.shape
    most, sparse = 0, rows.best_fraction > 0
    for row in range(num_rows):
        first, last = seen_pages(rows, row)
        most, sparse = max(most, last - first), sparse or rows.pages_kept[row] < last - first
    chosen = shaped(scratch.chosen, (num_rows, rows.num_kv_heads, 1 + most))
    outside = shaped(scratch.outside, (num_rows, num_heads))
    by_part = parts_for(most, rows.page_size), num_rows, num_heads
    tops, totals = shaped(scratch.page_tops, by_part), shaped(scratch.page_totals, by_part)
    masses = shaped(scratch.masses, (num_rows if sparse else 0, num_heads, most))
    if sparse:
        find_pages(query, blocks, rows, (tops, totals, masses), chosen, outside, team)
    elif rows.left_out.shape[1] > 0:
        list_chosen(rows, (tops, totals, masses), chosen, outside, team)
    return chosen


@helper
def attend_pages(query, blocks, rows, observed, scratch, team):
    """Choose each row's pages and attend to them, in parts for ``merge``; the members have met.

    Args:
        query: [R, H, D] float32, rotated and scaled.
        blocks: two CacheBlock: the rows' own and the shared one (the own one again where nothing
            is shared).
        rows: StepRows.
        observed: concentration [R] float32, overwritten with the heads' mean of the mass outside
            the best pages if ``rows.best_fraction`` is above 0; readers [R, Hkv, P] uint8, zeros,
            overwritten with 1 where a key-value head reads a page, if there is room for any; and
            tokens [R] int64, overwritten with how many were read, summed over these heads.
        scratch: Scratch, the team's.
    Returns: as ``attend_parts`` leaves it.
    """
    concentration, readers, tokens = observed
    num_rows, num_heads, size = query.shape
    chosen = _choose(query, blocks, rows, scratch, team)
    if team.member == 0:
        if rows.best_fraction > 0:
            outside = shaped(scratch.outside, (num_rows, num_heads))
            for row in range(num_rows):
                concentration[row] = outside[row].sum() / np.float32(num_heads)
        if readers.shape[2] > 0:
            _note_readers(chosen, rows, readers)
    slots = parts_of_step(rows, chosen)
    partial = (
        shaped(scratch.tops, (slots, num_rows, num_heads)),
        shaped(scratch.totals, (slots, num_rows, num_heads)),
        shaped(scratch.sums, (slots, num_rows, num_heads, size)),
        shaped(scratch.read, (slots, num_rows, rows.num_kv_heads)),
    )
    attend_parts(query, blocks, rows, chosen, partial, team)
    if team.member == 0:
        for row in range(num_rows):
            tokens[row] = np.int64(partial[3][:, row].sum())
    return partial
