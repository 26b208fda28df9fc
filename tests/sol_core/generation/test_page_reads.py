"""The record of the pages that a step read: small, exact about none and all, and packed as told."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.generation.sequence import MOST_CELLS, page_reads
from tests.sol_core.generation.page_levels import levels_of

MOST_CHARACTERS = 1024


def cells_of(readers, cells):
    """Readers of the pages of each cell, of each layer."""
    width = math.ceil(readers.shape[1] / cells)
    return [[layer[at : at + width] for at in range(0, len(layer), width)] for layer in readers]


def drawn(seed, layers, pages, heads, density):
    """How many heads read each page; some cells by none, some by all."""
    random = np.random.default_rng(seed)
    readers = random.binomial(heads, density, (layers, pages))
    readers[random.random((layers, pages)) < 0.3] = 0
    readers[random.random((layers, pages)) < 0.3] = heads
    return readers.astype(np.uint8)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    layers=st.integers(1, 80),
    pages=st.one_of(st.integers(1, 70), st.integers(1, 1000)),
    heads=st.integers(1, 8),
    density=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
def test_every_cell_has_the_level_of_its_share(seed, layers, pages, heads, density):
    readers = drawn(seed, layers, pages, heads, density)
    record = page_reads(readers, heads)
    assert len(record.levels) <= MOST_CHARACTERS
    assert record.pages == pages
    assert record.cells <= MOST_CELLS
    assert record.cells == pages or pages > MOST_CELLS or layers > 48
    levels = levels_of(record.levels, record.cells, layers)
    for layer, cells in zip(levels, cells_of(readers, record.cells), strict=True):
        for level, cell in zip(layer, cells, strict=True):
            read, pairs = int(cell.sum()), heads * len(cell)
            wanted = 0 if read == 0 else 3 if read == pairs else 1 if 2 * read <= pairs else 2
            assert level == wanted
    assert record.share == int(readers.sum(dtype=int)) / (layers * pages * heads)


def test_one_head_of_a_wide_cell_is_not_lost_and_many_heads_are_counted():
    readers = np.zeros((80, 1000), np.uint8)
    readers[79, 999] = 1
    record = page_reads(readers, 8)
    assert levels_of(record.levels, record.cells, 80)[79][-1] == 1
    assert record.share == 1 / (80 * 1000 * 8)
    assert page_reads(np.full((2, 1000), 200, np.uint8), 200).share == 1, "more than a byte holds"


def test_lists_name_the_pages_that_were_read():
    random = np.random.default_rng(4)
    for pages in (3, 64, 150):
        readers = random.binomial(2, 0.2, (3, pages)).astype(np.uint8)
        wanted = [np.flatnonzero(layer).tolist() for layer in readers]
        record = page_reads(readers, 2, exact=True)
        assert record.lists(3) == wanted
        assert record.share == page_reads(readers, 2).share
    coarse = page_reads(readers, 2)
    assert coarse.cells == 50
    assert coarse.lists(3) == [
        sorted({page for read in layer for page in range(read // 3 * 3, read // 3 * 3 + 3)})
        for layer in wanted
    ]
