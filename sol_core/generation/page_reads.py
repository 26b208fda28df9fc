"""The pages that a step read as a record, small enough to be kept with every token or exact."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from sol_core.events import PageReads

MOST_CELLS = 64  # of a layer
_MOST_LEVELS = 3072  # of a record: 1,024 characters
_PARTLY = 2  # levels of a cell that is read in part; one more is for a cell read wholly


def page_reads(readers: Any, num_kv_heads: int, *, exact: bool = False) -> PageReads:
    """Record of which pages were read.

    Args:
        readers: array [L, P] of integers, how many KV heads read each page; P at least 1.
        num_kv_heads: how many there are.
        exact: a cell for every page, however many there are; else it is coarse beyond 64.
    """
    num_layers, pages = readers.shape
    most = max(1, min(MOST_CELLS, _MOST_LEVELS // num_layers))
    width = 1 if exact else -(-pages // most)
    starts = np.arange(0, pages, width)
    read = np.add.reduceat(readers.astype(np.int64), starts, axis=1)
    pairs = np.diff(starts, append=pages) * num_kv_heads
    levels = -(-_PARTLY * read // pairs) + (read == pairs)
    share = float(readers.sum(dtype=np.int64)) / (readers.size * num_kv_heads)
    return PageReads(pages, len(starts), _packed(levels), share)


def _packed(levels: Any) -> str:
    """Base64 of two bits a level, four to a byte."""
    quads = np.pad(levels.ravel(), (0, -levels.size % 4)).reshape(-1, 4)
    return base64.b64encode((quads @ [1, 4, 16, 64]).astype(np.uint8).tobytes()).decode()
