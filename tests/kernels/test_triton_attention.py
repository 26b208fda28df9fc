"""Page-sparse attention in Triton against its reference, under the interpreter or on a GPU."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels import page_attention
from kernels.gpu import triton_support
from kernels.gpu.triton_support import KernelInputError
from kernels.page_attention import AttentionPlan, KVBlock, reference, triton_dispatch
from kernels.page_scorers import INT4
from tests.kernels import triton_cases

SHARE = 0.4
SLOW = replace(INT4, name="slow", compiled_choice=None)


@pytest.fixture(autouse=True)
def _on_triton():
    with triton_cases.triton_here():
        yield


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """What a kernel leaves unwritten is NaN, or a number no page or count can be."""
    plain = Tensor.new_empty

    def poisoned(self, *args, **kwargs):
        made = plain(self, *args, **kwargs)
        if made.is_floating_point():
            return made.fill_(torch.nan)
        return made.fill_(-(2**30)) if made.dtype == torch.int32 else made

    monkeypatch.setattr(Tensor, "new_empty", poisoned)


def _check(query, blocks, plan):
    tolerance = triton_cases.TOLERANCE[blocks[0].keys.dtype]
    query = query.to(triton_cases.DEVICE)
    expected = reference.attend(query, blocks, plan, SHARE)
    found = page_attention.attend(query, blocks, plan, SHARE, readers=True)
    triton_cases.close(found.mixed, expected.mixed, tolerance)
    triton_cases.close(found.outside, expected.outside, tolerance)
    triton_cases.same_counts(found, expected)
    assert torch.equal(found.readers, reference.page_readers(query, blocks, plan))
    return found.mixed


def _query(rows, heads, size, generator):
    return torch.randn(rows, heads, size, generator=generator) * size**-0.5


CASES = [  # groups, rows of each, heads, their size, shared pages, own tokens, page size, masked
    (2, 1, (1, 1), 64, 0, 1, 8, False),  # one token
    (2, 1, (9, 3), 64, 0, 45, 8, False),  # short last page
    (2, 1, (8, 1), 128, 0, 70, 16, False),
    (2, 1, (4, 4), 72, 0, 65, 64, False),
    (2, 2, (3, 1), 16, 3, 19, 8, True),
    (1, 3, (2, 2), 16, 4, 1, 3, True),
    (2, 2, (8, 1), 16, 2, 7, 1, True),
]


@pytest.mark.parametrize("dtype", triton_cases.DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_attention_equals_the_reference(case, dtype, monkeypatch, generator):
    """In splits at sizes that the interpreter can afford; dense where 16 bits have shared pages."""
    groups, each, heads, size, shared, own, page_size, masked = case
    monkeypatch.setattr(triton_dispatch, "TARGET_PROGRAMS", 6 * groups)
    monkeypatch.setattr(triton_dispatch, "TOKENS_PER_SPLIT", 8 if shared else 16)
    rows = groups * each
    blocks = [triton_cases.make_block((rows, heads[1], own, size), page_size, dtype, generator)]
    if shared:  # groups read the sequences in another order than they lie in memory
        order, shape = list(range(groups))[::-1], (groups, heads[1], shared * page_size, size)
        blocks.insert(0, triton_cases.make_block(shape, page_size, dtype, generator, order))
    width = own + shared * page_size
    first = torch.randint(width, (rows, 1), generator=generator)
    valid = torch.arange(width)[None] >= first if masked else None
    is_sparse = not shared or dtype == torch.float32
    floors = triton_cases.some_floors(rows, generator) if is_sparse else None
    plan = triton_cases.make_plan(blocks, rows, page_size, floors, valid)
    query = _query(rows, heads[0], size, generator)
    _check(query, blocks, plan)


def test_pages_that_weigh_alike_are_all_read():
    """Pages weigh alike for each of four heads: a floor takes all of them, or the need of none."""
    keys = torch.ones(2, 1, 12, 16, device=triton_cases.DEVICE)
    keys[..., ::2] = -1.0
    values = torch.arange(6.0, device=triton_cases.DEVICE).repeat_interleave(2)[None, None, :, None]
    values = values.expand(2, 1, 12, 16).contiguous()
    block = KVBlock(keys, values, None, *triton_cases.make_codes(keys, 12))
    plan = triton_cases.make_plan([block], 2, 2, torch.tensor([0.5, 9.0]))
    query = torch.arange(4.0, device=triton_cases.DEVICE)[None, :, None].expand(2, 4, 16) - 1.5
    found = page_attention.attend(query, [block], plan).mixed
    triton_cases.close(found.cpu(), torch.full_like(found.cpu(), 2.5), 1e-6)


def test_a_group_reads_the_pages_that_it_needs_and_no_others(generator):
    """Values of all other pages are NaN: a weight of 0 would not hide one."""
    block = triton_cases.make_block((1, 2, 61, 16), 4, torch.float32, generator)
    query = _query(1, 6, 16, generator).to(triton_cases.DEVICE) * 4
    plan = triton_cases.make_plan([block], 1, 4, torch.tensor([1.5]))
    clean = page_attention.attend(query, [block], plan).mixed
    scores = reference._scores_of_pages(query, [block], plan)
    shares = reference.group_fractions(scores, plan.valid_pages, 2)
    pages = reference.select_needed(shares, plan.valid_pages, plan.pages_kept, plan.floors)
    assert 0 < int(pages.sum()) < pages.numel()
    tokens = pages.repeat_interleave(4, dim=-1)[..., :61, None]
    for spoilt in (tokens, ~tokens):
        values = block.values.masked_fill(spoilt, torch.nan)
        blocks = [replace(block, keys=block.keys.clone(), values=values)]
        found = page_attention.attend(query, blocks, plan).mixed
        assert found.isnan().all() if spoilt is tokens else torch.equal(found, clean)


def test_a_dense_row_has_the_same_bits_beside_sparse_ones(generator):
    block = triton_cases.make_block((2, 1, 37, 16), 8, torch.float32, generator)
    query = _query(2, 3, 16, generator).to(triton_cases.DEVICE)
    dense = page_attention.attend(query, [block], AttentionPlan(8)).mixed
    plan = triton_cases.make_plan([block], 2, 8, torch.tensor([0.0, 2.0]))
    mixed = page_attention.attend(query, [block], plan).mixed
    assert torch.equal(mixed[0], dense[0])
    assert not torch.allclose(mixed[1], dense[1])


def test_unseen_tokens_may_hold_anything(generator):
    """NaN and infinity in slots that rows have not written yet change nothing."""
    block = triton_cases.make_block((2, 1, 24, 16), 8, torch.float32, generator)
    valid = torch.arange(24)[None] < torch.tensor([[24], [11]])
    query = _query(2, 3, 16, generator).to(triton_cases.DEVICE)
    plan = triton_cases.make_plan([block], 2, 8, torch.tensor([0.8, 2.0]), valid)
    clean = page_attention.attend(query, [block], plan).mixed
    keys, values = block.keys.clone(), block.values.clone()
    keys[1, :, 11:], values[1, :, 11:] = torch.inf, torch.nan
    codes, scales = block.codes.clone(), block.scales.clone()
    codes[1, :, 2], scales[1, :, 2] = 255, torch.nan
    spoilt = replace(block, keys=keys, values=values, codes=codes, scales=scales)
    dirty = page_attention.attend(query, [spoilt], plan).mixed
    assert torch.equal(dirty, clean)
    assert clean.isfinite().all()


def test_large_scores_do_not_overflow(generator):
    block = triton_cases.make_block((1, 1, 40, 16), 8, torch.float32, generator)
    query = _query(1, 2, 16, generator).to(triton_cases.DEVICE) * 3e4
    plan = triton_cases.make_plan([block], 1, 8, torch.tensor([1.0]))
    expected = reference.attend(query, [block], plan).mixed
    triton_cases.close(page_attention.attend(query, [block], plan).mixed, expected, 1e-3)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("head size", {"size": 264}),
        ("page_size", {"page_size": 65}),
        ("keys", {"dtype": torch.float64}),
        ("torch.float32 keys", {"size": 256}),
        ("a group choose pages by slow", {"scorer": SLOW}),
        ("a head choose pages by int4", {"choice": "head"}),
    ],
)
def test_what_only_the_reference_takes_goes_there_and_is_logged_once(
    argument, change, caplog, monkeypatch, generator
):
    monkeypatch.setattr(page_attention, "cpu_kernel_fits", lambda *given: False)
    usual = {"size": 16, "page_size": 8, "dtype": torch.float32}
    size, page_size, dtype, *how = (usual | {"scorer": INT4, "choice": "group"} | change).values()
    block = triton_cases.make_block((1, 1, 9, size), page_size, dtype, generator)
    query = _query(1, 2, size, generator).to(triton_cases.DEVICE)
    plan = triton_cases.make_plan([block], 1, page_size, torch.ones(1), how=(how[0], how[1]))
    triton_support._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = page_attention.attend(query, [block], plan).mixed
    assert torch.equal(found, reference.attend(query, [block], plan).mixed)
    assert caplog.text.count("page_attention runs on PyTorch's reference") == 1
    assert argument in caplog.text


@pytest.mark.skipif(
    triton_cases.DEVICE == "cuda", reason="layouts would change on the way to a GPU"
)
@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("keys", {"keys": torch.zeros(1, 1, 16, 9).mT}),
        ("values", {"values": torch.zeros(1, 1, 9, 16, dtype=torch.bfloat16)}),
        ("sources", {"sources": torch.zeros(1, dtype=torch.int64, device="meta")}),
        ("sources", {"sources": torch.zeros(1, 1, dtype=torch.int64)}),
        ("codes", {"codes": None}),
        ("codes", {"codes": torch.zeros(1, 1, 1, 2, 8, 4, dtype=torch.uint8)}),
        ("scales", {"scales": torch.zeros(1, 1, 2, 2, 8)}),
        ("codes and scales", {"scales": torch.zeros(1, 1, 4, 2, 8).bfloat16()[:, :, :2]}),
        ("pages_kept", {"pages_kept": torch.ones(2, dtype=torch.int64)}),
        ("valid_pages", {"valid_pages": torch.ones(1, 2)}),
        ("valid_tokens", {"valid_tokens": torch.ones(1, 8, dtype=torch.bool)}),
        ("floors", {"floors": torch.ones(2)}),
        ("tokens_per_page", {"tokens_per_page": None}),
    ],
)
def test_wrong_blocks_and_plans_are_named(argument, change, generator):
    block = triton_cases.make_block((1, 1, 9, 16), 8, torch.float32, generator)
    plan = triton_cases.make_plan([block], 1, 8, torch.ones(1))
    if hasattr(block, next(iter(change))):
        block = replace(block, **change)
    else:
        plan = replace(plan, **change)
    with pytest.raises(KernelInputError, match=argument):
        page_attention.attend(torch.zeros(1, 2, 16), [block], plan)
