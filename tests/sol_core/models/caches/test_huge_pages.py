"""Memory in huge pages: tensors apart, zeros again, and common memory where there are none."""

import gc
import mmap
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from sol_core.actions import GRIDS, Action
from sol_core.models import huge_pages
from sol_core.models.huge_pages import HUGE_PAGE, MOST_FREE, HugePages, free_bytes
from tests.support.tiny_models import make_tiny_lm

needs_linux = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE"), reason="asking for huge pages is of Linux alone"
)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    gc.collect()
    monkeypatch.setattr(huge_pages, "_free", [])


def _is_advised(tensor):
    """Whether the system knows that this memory is to be in huge pages."""
    address, inside = tensor.data_ptr(), False
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        if ends := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            begin, end = (int(number, 16) for number in ends.groups())
            inside = begin <= address < end
        elif inside and line.startswith("VmFlags:"):
            return " hg" in line
    return False


def test_tensors_of_a_piece_lie_apart():
    pages = HugePages(4 * HUGE_PAGE)
    shapes = [((3, 5), torch.bfloat16), ((0, 4), torch.float32), ((7,), torch.int64)]
    shapes += [((HUGE_PAGE,), torch.uint8), ((5 * HUGE_PAGE,), torch.uint8)]
    made = [pages.zeros(*kind) for kind in shapes]
    assert [(tensor.shape, tensor.dtype) for tensor in made] == shapes
    assert all(tensor.data_ptr() % 64 == 0 for tensor in made)
    for number, tensor in enumerate(made, 1):
        assert not tensor.any()
        tensor.fill_(number)
    assert all(bool((tensor == number).all()) for number, tensor in enumerate(made, 1))


def test_a_copy_has_the_numbers_and_the_layout():
    matrix = torch.randn(6, 10)
    for given in (matrix, matrix.t(), matrix[0], matrix[:, 2:5]):
        copied = HugePages(HUGE_PAGE).copy(given)
        assert torch.equal(copied, given)
        assert copied.data_ptr() != given.data_ptr()
    assert HugePages(HUGE_PAGE).copy(matrix.t()).stride() == matrix.t().stride()


@needs_linux
def test_large_memory_begins_with_a_huge_page_and_small_memory_does_not_ask(monkeypatch):
    large = HugePages(4 * HUGE_PAGE).zeros((100,), torch.float32)
    assert large.data_ptr() % HUGE_PAGE == 0
    assert _is_advised(large)
    # Not by its flags: malloc's memory has them once NumPy has asked for an array in it.
    taken = Mock()
    monkeypatch.setattr(mmap, "mmap", taken)
    HugePages(HUGE_PAGE // 2).zeros((100,), torch.float32)
    assert not taken.called


@needs_linux
def test_memory_goes_with_its_last_tensor_and_is_zeros_for_the_next():
    pages = HugePages(4 * HUGE_PAGE)
    first, second = (pages.zeros((HUGE_PAGE,), torch.uint8) for _ in range(2))
    address = first.data_ptr()
    first.fill_(7)
    del pages, first
    assert free_bytes() == 0
    del second
    assert free_bytes() == 4 * HUGE_PAGE
    assert HugePages(HUGE_PAGE).zeros((4,), torch.uint8).data_ptr() != address  # too large for it
    again = HugePages(3 * HUGE_PAGE).zeros((HUGE_PAGE,), torch.uint8)
    assert again.data_ptr() == address
    assert not again.any()


@needs_linux
def test_only_so_much_is_kept():
    half = MOST_FREE // 2
    some = [HugePages(half).zeros((1,), torch.uint8) for _ in range(3)]
    del some
    assert free_bytes() == MOST_FREE
    beyond = HugePages(MOST_FREE + HUGE_PAGE).zeros((1,), torch.uint8)
    del beyond
    assert free_bytes() == 0


@pytest.mark.parametrize("why", ["no such advice", "refused"])
def test_without_huge_pages_memory_is_common(monkeypatch, why):
    if why == "refused":

        def refuse(*given, **how):
            raise OSError(22, "no huge pages")

        monkeypatch.setattr(mmap, "mmap", refuse)
    else:
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    made = HugePages(4 * HUGE_PAGE).zeros((3, 5), torch.bfloat16)
    assert made.shape == (3, 5)
    assert not made.any()
    assert free_bytes() == 0


@needs_linux
def test_a_cache_is_one_piece_whose_steps_have_the_same_numbers(monkeypatch):
    lm, action = make_tiny_lm(), Action(0.5, 0.7, 16)

    def logits():
        cache = lm.new_cache(1, 60_000)
        lm.prefill(torch.arange(3, 103)[None], cache)
        steps = [
            lm.decode_step(torch.tensor([5]), cache, action, mechanisms=GRIDS["default"].mechanisms)
            for _ in range(3)
        ]
        return cache, torch.stack([step.logits for step in steps])

    cache, found = logits()
    buffers = [buffer for store in cache.layers for buffer in store.buffers]
    assert cache.num_bytes > 2 * HUGE_PAGE
    assert len({buffer.untyped_storage().data_ptr() for buffer in buffers}) == 2  # codes apart
    assert all(_is_advised(store.keys) for store in cache.layers)
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    _, expected = logits()
    assert torch.equal(found, expected)
