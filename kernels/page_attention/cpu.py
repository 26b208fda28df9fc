"""Page-sparse attention of many rows of one layer on the CPU, in Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cpu.compiling import kernel
from kernels.cpu.team import from_first, join, meet, run_as_team
from kernels.cpu.threads import Tuning
from kernels.page_attention.chosen_pages import StepRows, attend_pages, most_pages
from kernels.page_attention.group_attention import merge
from kernels.page_attention.scratch import Sizes, floats_of, scratch_at, shaped

_NO_READERS = np.empty((0, 0, 0), np.uint8)


@kernel
def _attend_member(iteration, marks, arguments):
    """``attend_rows`` by one member of a team."""
    query, blocks, rows, results, tuning = arguments
    mixed, read, outside, readers = results
    team = join(marks, iteration, tuning)
    if team.member < 0:
        return
    num_rows, heads, size = query.shape
    pages = most_pages(rows.shared_tokens, rows.own_tokens, rows.page_size)
    sizes = Sizes(num_rows, heads, size, pages, rows.page_size, 0, 0, 0)
    memory = np.empty(floats_of(sizes) if team.member == 0 else 0, np.float32)
    scratch = scratch_at(from_first(team, memory.ctypes.data), sizes, query)
    observed = np.empty(num_rows, np.float32), readers, read
    partial = attend_pages(query, blocks, rows, observed, scratch, team)
    begin = num_rows * team.member // team.members
    end = num_rows * (team.member + 1) // team.members
    merge(partial, (begin, end), mixed)
    if rows.best_fraction > 0:
        outside[begin:end] = shaped(scratch.outside, outside.shape)[begin:end]
    meet(team)
    memory[:0] = 0  # kept until all are done with it


def attend_rows(query: Any, blocks: Any, rows: StepRows, results: Any, threads: int) -> None:
    """``attend`` of every row.

    Args:
        query: [R, H, D] float32, contiguous.
        blocks: two CacheBlock: the rows' own and the shared one.
        rows: StepRows.
        results: mixed [R, H, D] float32 and tokens read [R] int64, overwritten, and the mass
            outside the best pages [R, H] float32, overwritten if ``rows.best_fraction`` is above 0.
        threads: that a team is asked of.
    """
    arguments = (query, blocks, rows, (*results, _NO_READERS), Tuning(threads, 1))
    run_as_team(_attend_member, blocks[0].keys.dtype, arguments)
