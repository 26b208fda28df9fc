"""The reference kernels against loops that spell out the definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.activation_quantisation import fake_quantise
from kernels.channel_pruning import keep_largest_channels
from kernels.page_attention import AttentionPlan, KVBlock, attend
from kernels.page_attention.reference import select_pages
from kernels.page_scorers import page_bounds, page_scores

shapes = st.tuples(
    st.integers(1, 3),  # rows
    st.sampled_from([(1, 1), (3, 1), (6, 2), (8, 8)]),  # query and KV heads
    st.integers(1, 40),  # tokens
    st.sampled_from([1, 3, 8, 16]),  # page size
)


def _attend_by_hand(query, keys, values, page_size, kept):
    """Quest for one row and head, in loops: query [D], keys and values [S, D]."""
    pages = [range(s, min(s + page_size, len(keys))) for s in range(0, len(keys), page_size)]
    scores = []
    for page in pages:
        low = torch.stack([keys[t] for t in page]).amin(0)
        high = torch.stack([keys[t] for t in page]).amax(0)
        scores.append(
            sum(max(float(q * a), float(q * b)) for q, a, b in zip(query, low, high, strict=True))
        )
    best = sorted(range(len(pages)), key=lambda p: (-scores[p], p))[:kept]
    tokens = [t for p in sorted(best) for t in pages[p]]
    weights = torch.softmax(torch.stack([query @ keys[t] for t in tokens]), 0)
    return sum(w * values[t] for w, t in zip(weights, tokens, strict=True))


@given(shape=shapes, share=st.floats(0.05, 1.0), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_page_sparse_attention_is_quest(shape, share, seed):
    rows, (heads, kv_heads), tokens, page_size = shape
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(rows, heads, 4, generator=generator)
    keys = torch.randn(rows, kv_heads, tokens, 4, generator=generator)
    values = torch.randn(rows, kv_heads, tokens, 4, generator=generator)
    pages = -(-tokens // page_size)
    kept = max(1, math.ceil(share * pages))
    plan = AttentionPlan(
        page_size,
        valid_pages=torch.ones(rows, pages, dtype=torch.bool),
        pages_kept=torch.full((rows,), kept),
    )
    block = KVBlock(keys, values)
    found = attend(query, [block], plan).mixed
    for row in range(rows):
        for head in range(heads):
            group = head // (heads // kv_heads)
            expected = _attend_by_hand(
                query[row, head], keys[row, group], values[row, group], page_size, kept
            )
            torch.testing.assert_close(found[row, head], expected, rtol=1e-4, atol=1e-5)


def test_page_bounds_ignore_unwritten_slots():
    keys = torch.full((2, 1, 5, 3), torch.nan)
    keys[0, :, :3] = torch.randn(1, 3, 3)
    keys[1, :, :1] = torch.randn(1, 1, 3)
    valid = torch.tensor([[True] * 3 + [False] * 2, [True] + [False] * 4])
    low, high = page_bounds(keys, valid, 2)
    assert torch.equal(low[0, 0, 0], keys[0, 0, :2].amin(0))
    assert torch.equal(high[0, 0, 1], keys[0, 0, 2])
    assert low[1, 0, 1:].isposinf().all()
    assert high[1, 0, 1:].isneginf().all()


def test_empty_pages_are_never_chosen_and_ties_go_to_the_lowest():
    keys = torch.randn(1, 1, 6, 4)
    valid = torch.tensor([[True, True, False, False, False, False]])
    scores = page_scores(torch.zeros(1, 2, 4), KVBlock(keys, keys), valid, 2)
    assert scores.isfinite().all()
    chosen = select_pages(scores, torch.tensor([[True, False, False]]), torch.tensor([3]))
    assert chosen.tolist() == [[[True, False, False]] * 2]
    tied = torch.tensor([[[1.0, 2.0, 2.0, 2.0, 0.0]]])
    chosen = select_pages(tied, torch.ones(1, 5, dtype=torch.bool), torch.tensor([2]))
    assert chosen[0, 0].tolist() == [False, True, True, False, False]


@given(
    values=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0, 3.5]), min_size=1, max_size=20),
    data=st.data(),
)
def test_exactly_k_largest_channels_survive(values, data):
    kept = data.draw(st.integers(1, len(values)))
    hidden = torch.tensor([values])
    # Ones mark survivors even where the value itself is 0.
    found = keep_largest_channels(hidden, torch.tensor([kept]))
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:kept]
    expected = torch.zeros_like(hidden)
    expected[0, order] = hidden[0, order]
    assert torch.equal(found, expected)


def test_fake_quantise_rounds_half_to_even():
    values = torch.tensor([[7.0, 0.5, 1.5, 2.5, -0.5]])  # 4 bits: q_max 7, scale 1
    assert fake_quantise(values, torch.tensor([4])).tolist() == [[7.0, 0.0, 2.0, 2.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 5, 15, 16])
def test_fake_quantise_follows_the_formula(dtype, bits):
    values = torch.randn(3, 50).to(dtype)
    found = fake_quantise(values, torch.tensor([bits] * 3))
    if bits == 16:
        assert torch.equal(found, values)
        return
    q_max = 2 ** (bits - 1) - 1
    for row in range(3):
        wide = values[row].float()
        scale = max(float(wide.abs().max()) / q_max, 1e-8)
        expected = torch.round(wide / scale) * scale
        torch.testing.assert_close(found[row].float(), expected.to(dtype).float())
        assert len(torch.unique(torch.round(wide / scale))) <= 2 * q_max + 1


BLOCKS = st.sampled_from([1, 4, 32])


def _rows(data, width):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    values = torch.randn(3, width, generator=generator) * torch.tensor([[1.0], [1e-3], [40.0]])
    return values, torch.tensor([data.draw(st.integers(2, 15)) for _ in values])


@given(width=st.integers(1, 100), block=BLOCKS, data=st.data())
def test_every_block_is_rounded_like_a_row_of_its_own(width, block, data):
    """From channel 0 on, whatever the other blocks hold; a row of one block as per token."""
    values, bits = _rows(data, width)
    rounded = fake_quantise(values, bits, block)
    for begin in range(0, width, block):
        some = slice(begin, begin + block)
        assert torch.equal(rounded[:, some], fake_quantise(values[:, some], bits))
    assert torch.equal(fake_quantise(values, bits, 128), fake_quantise(values, bits))


@given(width=st.integers(1, 100), block=BLOCKS, power=st.integers(-6, 6), data=st.data())
def test_blocks_err_by_half_a_step_and_scale_by_powers_of_two(width, block, power, data):
    values, bits = _rows(data, width)
    rounded = fake_quantise(values, bits, block)
    for begin in range(0, width, block):
        some = slice(begin, begin + block)
        most = values[:, some].abs().amax(1, keepdim=True)
        half = 0.5 * (most / (2 ** (bits - 1) - 1)[:, None]).clamp_min(1e-8)
        # The quotient and the product are fp32: of 8,191 steps their rounding is some thousandths.
        assert ((rounded - values)[:, some].abs() <= half + 2.0**-22 * most).all()
    factor = torch.ones(width)
    factor[:block] = 2.0**power
    least = values[:, :block].abs().amax(1) * factor[0] / (2 ** (bits - 1) - 1)
    beyond_floor = (least > 1e-8) & (values[:, :block].abs().amax(1) > 1e-3)
    scaled = fake_quantise(values * factor, bits, block)
    assert torch.equal(scaled[beyond_floor], (rounded * factor)[beyond_floor])
