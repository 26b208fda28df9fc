"""The CPU kernels against their references, which define them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import (
    activation_quantisation,
    channel_pruning,
    kv_write,
    log_softmax,
    page_attention,
    rms_norm,
    rotary,
    top_k,
)
from kernels import causal_attention as prefill
from kernels.activation_quantisation import reference as quantisation
from kernels.causal_attention import causal_attention
from kernels.causal_attention import reference as causal
from kernels.channel_pruning import reference as pruning
from kernels.cpu.threads import cpu_kernel
from kernels.key_codes import encode_keys
from kernels.page_attention import AttentionPlan, KVBlock, dispatch, page_bounds
from kernels.page_attention import reference as attention
from tests.kernels.triton_cases import by_need, same_counts

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-5}  # both widen exactly and sum in fp32
SHARE = 0.4

shapes = st.fixed_dictionaries(
    {
        "texts": st.integers(1, 3),
        "group": st.sampled_from([3, 5]),
        "heads": st.sampled_from([(1, 1), (3, 1), (9, 3), (8, 1), (2, 2)]),
        "shared_pages": st.integers(0, 5),
        "own": st.integers(1, 19),
        "page_size": st.sampled_from([1, 3, 8]),
        "size": st.sampled_from([16, 64, 80]),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
        "seed": st.integers(0, 1000),
    }
)


@pytest.fixture(autouse=True)
def _any_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (channel_pruning, dispatch, rms_norm, rotary, kv_write, log_softmax):
        monkeypatch.setattr(module, "MANY_ROWS", 1)
    monkeypatch.setattr(top_k, "MANY_NUMBERS", 1)
    # Right where it is not the fastest, too.
    monkeypatch.setattr(prefill, "MANY_ROWS", 1)
    monkeypatch.setattr(prefill, "_suits", lambda size: size % 16 == 0)


def test_the_kernels_run_here() -> None:
    assert cpu_kernel("kernels.page_attention.cpu", "attend_rows") is not None
    assert cpu_kernel("kernels.channel_pruning.cpu", "keep_largest_rows") is not None
    assert cpu_kernel("kernels.activation_quantisation.cpu", "fake_quantise_rows") is not None
    assert cpu_kernel("kernels.rms_norm.cpu", "rms_norm_rows") is not None
    assert cpu_kernel("kernels.rotary.cpu", "rotate_rows") is not None
    assert cpu_kernel("kernels.kv_write.cpu", "write_rows") is not None
    assert cpu_kernel("kernels.top_k.cpu", "top_places") is not None
    assert cpu_kernel("kernels.log_softmax.cpu", "log_softmax_rows") is not None
    assert cpu_kernel("kernels.no_such_module", "nothing") is None


def _block(rows: int, heads: int, tokens: int, shape: dict, generator: torch.Generator) -> KVBlock:  # type: ignore[type-arg]
    """Keys as the cache gives them: a view of a longer buffer whose rest is NaN."""
    keys, values = (
        torch.full((rows, heads, tokens + 5, shape["size"]), torch.nan).to(shape["dtype"])
        for _ in range(2)
    )
    for buffer in (keys, values):
        new = torch.randn(rows, heads, tokens, shape["size"], generator=generator)
        buffer[:, :, :tokens] = new.to(shape["dtype"])
    seen = keys[:, :, :tokens]
    low, high = page_bounds(seen, None, shape["page_size"])
    return KVBlock(seen, values[:, :, :tokens], low.contiguous(), high.contiguous())


def _case(shape: dict, generator: torch.Generator) -> tuple[Tensor, list[KVBlock]]:  # type: ignore[type-arg]
    heads, kv_heads = shape["heads"]
    rows = shape["texts"] * shape["group"]
    query = torch.randn(rows, heads, shape["size"], generator=generator) * shape["size"] ** -0.5
    blocks = [_block(rows, kv_heads, shape["own"], shape, generator)]
    if shape["shared_pages"]:
        tokens = shape["shared_pages"] * shape["page_size"]
        blocks.insert(0, _block(shape["texts"], kv_heads, tokens, shape, generator))
    return query, blocks


def _valid_tokens(blocks: list[KVBlock], rows: int, generator: torch.Generator) -> Tensor:
    """Every row sees its newest token and a stretch of those before it."""
    width = sum(block.keys.shape[2] for block in blocks)
    first = torch.randint(width, (rows, 1), generator=generator)
    return torch.arange(width)[None] >= first


def _spans(blocks: list[KVBlock], valid: Tensor | None) -> Tensor | None:
    """The same in numbers, as a plan has them."""
    if valid is None:
        return None
    shared = blocks[0].keys.shape[2] if len(blocks) == 2 else 0
    spans = torch.tensor([[shared], [blocks[-1].keys.shape[2] - 1], [0]]).repeat(1, len(valid))
    spans[2] = valid.long().argmax(1)
    return spans


def _check(query: Tensor, blocks: list[KVBlock], plan: AttentionPlan) -> None:
    assert dispatch.cpu_kernel_fits(query, blocks, plan)
    tolerance = TOLERANCE[blocks[0].keys.dtype]
    expected = attention.attend(query, blocks, plan)
    observed = plan.tokens_per_page is not None
    for share in (0.0, SHARE)[: 1 + observed]:
        found = page_attention.attend(query, blocks, plan, share)
        torch.testing.assert_close(found.mixed, expected.mixed, rtol=tolerance, atol=tolerance)
        same_counts(found, expected)
        if share:
            mass = attention.mass_outside(query, blocks, plan, SHARE)
            torch.testing.assert_close(found.outside, mass, rtol=1e-4, atol=1e-5)


@given(shape=shapes, masked=st.booleans(), sparse=st.booleans())
@settings(max_examples=80)
def test_attention_equals_the_reference(shape: dict, masked: bool, sparse: bool) -> None:  # type: ignore[type-arg]
    generator = torch.Generator().manual_seed(shape["seed"])
    query, blocks = _case(shape, generator)
    rows, page_size = query.shape[0], shape["page_size"]
    valid = _valid_tokens(blocks, rows, generator) if masked else None
    width = sum(block.keys.shape[2] for block in blocks)
    seen = torch.ones(rows, width, dtype=torch.bool) if valid is None else valid
    padded = torch.nn.functional.pad(seen, (0, -width % page_size))
    tokens = padded.unflatten(1, (-1, page_size)).sum(-1)
    kept = torch.randint(1, tokens.shape[1] + 2, (rows,), generator=generator)
    spans = _spans(blocks, valid)
    kept = kept if sparse else None
    plan = AttentionPlan(page_size, valid, tokens > 0, kept, tokens, spans=spans)
    _check(query, blocks, plan)
    if not sparse:
        _check(query, blocks, AttentionPlan(page_size, valid, spans=spans))


def _coded(block: KVBlock) -> KVBlock:
    """The block with 4-bit keys as the cache gives them: a view of a longer buffer."""
    keys = torch.nn.functional.pad(block.keys, (0, 0, 0, 16 - block.keys.shape[2] % 8))
    octets = -(-block.keys.shape[2] // 8)
    codes, scales = (part.contiguous()[:, :, :octets] for part in encode_keys(keys))
    return dataclasses.replace(block, page_min=None, page_max=None, codes=codes, scales=scales)


@given(shape=shapes, masked=st.booleans(), sparse=st.booleans())
@settings(max_examples=80)
def test_attention_by_mass_equals_the_reference(shape: dict, masked: bool, sparse: bool) -> None:  # type: ignore[type-arg]
    generator = torch.Generator().manual_seed(shape["seed"])
    query, blocks = _case(shape, generator)
    blocks = [_coded(block) for block in blocks]
    rows, page_size = query.shape[0], shape["page_size"]
    valid = _valid_tokens(blocks, rows, generator) if masked else None
    width = sum(block.keys.shape[2] for block in blocks)
    seen = torch.ones(rows, width, dtype=torch.bool) if valid is None else valid
    padded = torch.nn.functional.pad(seen, (0, -width % page_size))
    tokens = padded.unflatten(1, (-1, page_size)).sum(-1)
    kept = torch.randint(1, tokens.shape[1] + 2, (rows,), generator=generator)
    plan = AttentionPlan(
        page_size, valid, tokens > 0, kept if sparse else None, tokens, "int4", "group",
        spans=_spans(blocks, valid),
    )  # fmt: skip
    _check(query, blocks, plan)
    if sparse:
        _check(query, blocks, by_need(plan, generator))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sequences_read_in_any_order_and_repeatedly(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    shape = {"size": 16, "page_size": 4, "dtype": dtype}
    shared, own = _block(3, 2, 20, shape, generator), _block(10, 2, 5, shape, generator)
    sources = torch.tensor([2, 0, 2, 1, 0])
    shared = KVBlock(shared.keys, shared.values, shared.page_min, shared.page_max, sources)
    query = torch.randn(10, 6, 16, generator=generator)
    tokens = torch.tensor([[4, 4, 4, 4, 4, 4, 1]]).expand(10, -1)
    kept = torch.arange(1, 11)
    _check(query, [shared, own], AttentionPlan(4, None, tokens > 0, kept, tokens))


def test_tied_pages_go_to_the_lowest_in_the_kernel_too() -> None:
    """All pages alike but for their values: what was read shows which were chosen."""
    keys = torch.ones(5, 1, 12, 16)
    values = torch.arange(6.0).repeat_interleave(2)[None, None, :, None].expand(5, 1, 12, 16)
    values = values.contiguous()
    block = KVBlock(keys, values, *page_bounds(keys, None, 2))
    query = torch.ones(5, 2, 16)
    for scale in (1.0, 0.0, -1.0):  # all scores equal: positive, zero, negative
        kept = torch.tensor([1, 2, 3, 5, 6])
        plan = AttentionPlan(2, None, torch.ones(5, 6, dtype=torch.bool), kept)
        found = page_attention.decode_attention(query * scale, [block], plan)
        expected = (kept - 1).float()[:, None, None] / 2  # mean of pages 0 … kept − 1
        torch.testing.assert_close(found, expected.expand_as(found))


def test_a_dense_row_has_the_same_bits_beside_sparse_ones() -> None:
    generator = torch.Generator().manual_seed(1)
    shape = {"size": 32, "page_size": 8, "dtype": torch.float32}
    block = _block(6, 3, 37, shape, generator)
    query = torch.randn(6, 9, 32, generator=generator)
    dense = page_attention.decode_attention(query, [block], AttentionPlan(8))
    kept = torch.tensor([99, 1, 2, 3, 5, 4])
    plan = AttentionPlan(8, None, torch.ones(6, 5, dtype=torch.bool), kept)
    mixed = page_attention.decode_attention(query, [block], plan)
    assert torch.equal(mixed[[0, 4]], dense[[0, 4]])
    assert not torch.allclose(mixed[1], dense[1])


def test_large_scores_do_not_overflow() -> None:
    keys = torch.randn(5, 1, 16, 16) * 100
    block = KVBlock(keys, torch.randn(5, 1, 16, 16), *page_bounds(keys, None, 8))
    query = torch.randn(5, 2, 16) * 100
    found = page_attention.decode_attention(query, [block], AttentionPlan(8))
    torch.testing.assert_close(
        found, attention.decode_attention(query, [block], AttentionPlan(8)), rtol=1e-4, atol=1e-4
    )


def test_other_layouts_and_dtypes_go_to_the_reference() -> None:
    query, keys = torch.randn(6, 2, 16), torch.randn(6, 2, 8, 16)
    block = KVBlock(keys, keys)
    assert dispatch.cpu_kernel_fits(query, [block], AttentionPlan(8))
    assert not dispatch.cpu_kernel_fits(query, [KVBlock(keys.mT, keys)], AttentionPlan(8))
    assert not dispatch.cpu_kernel_fits(query.double(), [block], AttentionPlan(8))
    assert not dispatch.cpu_kernel_fits(
        query, [KVBlock(keys.half(), keys.half())], AttentionPlan(8)
    )
    assert not dispatch.cpu_kernel_fits(query, [block] * 3, AttentionPlan(8))
    seen = torch.ones(6, 8, dtype=torch.bool)  # and nothing that says it in numbers
    assert not dispatch.cpu_kernel_fits(query, [block], AttentionPlan(8, seen))


rows_of_numbers = st.lists(
    st.lists(
        st.sampled_from([-3.5, -2.0, -1.0, -0.0, 0.0, 1e-30, 1.0, 2.0, 7.25]),
        min_size=9,
        max_size=9,
    ),
    min_size=1,
    max_size=5,
)


@given(rows=rows_of_numbers, data=st.data())
def test_pruning_equals_the_reference_bit_for_bit(
    rows: list[list[float]], data: st.DataObject
) -> None:
    hidden = torch.tensor(rows)
    count = st.lists(st.integers(1, 9), min_size=len(rows), max_size=len(rows))
    kept = torch.tensor(data.draw(count))
    found = channel_pruning.keep_largest_channels(hidden, kept)
    assert torch.equal(found, pruning.keep_largest_channels(hidden, kept))


@pytest.mark.parametrize("channels", [1, 2, 31, 576])
def test_pruning_of_random_rows(channels: int) -> None:
    hidden = torch.randn(7, channels)
    kept = torch.randint(1, channels + 1, (7,))
    found = channel_pruning.keep_largest_channels(hidden, kept)
    assert torch.equal(found, pruning.keep_largest_channels(hidden, kept))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [1, 31, 1536])
def test_the_heaviest_channels_are_those_of_the_reference(
    dtype: torch.dtype, channels: int
) -> None:
    inner, norms = torch.randn(7, channels).to(dtype), torch.rand(channels)
    inner[2], norms[::5] = inner[2].round(), 0.0  # with ties, and channels that add nothing
    kept = torch.randint(1, channels + 1, (7,))
    kept[0] = channels
    found = channel_pruning.keep_heaviest_channels(inner, norms, kept)
    assert torch.equal(found, pruning.keep_heaviest_channels(inner, norms, kept))


@given(
    bits=st.lists(st.integers(2, 16), min_size=1, max_size=6),
    channels=st.sampled_from([1, 7, 64, 576]),
    scale=st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_quantisation_equals_the_reference_bit_for_bit(
    bits: list[int], channels: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(bits), channels, generator=generator) * scale
    widths = torch.tensor(bits)
    found = activation_quantisation.fake_quantise(values, widths)
    assert torch.equal(found, quantisation.fake_quantise(values, widths))


def test_quantisation_keeps_nan_visible() -> None:
    values = torch.ones(1, 8)
    values[0, 3] = torch.nan
    assert activation_quantisation.fake_quantise(values, torch.tensor([8])).isnan().all()


def test_half_precision_equals_the_references() -> None:
    values = torch.randn(3, 40).bfloat16()
    kept, bits = torch.tensor([1, 20, 40]), torch.tensor([3, 8, 16])
    pruned = channel_pruning.keep_largest_channels(values, kept)
    assert torch.equal(pruned, pruning.keep_largest_channels(values, kept))
    rounded = activation_quantisation.fake_quantise(values, bits)
    assert torch.equal(rounded, quantisation.fake_quantise(values, bits))


@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (3, 7), (5, 576)])
def test_norm_equals_the_reference(rows: int, channels: int) -> None:
    hidden, weight = torch.randn(rows, channels) * 30, torch.randn(channels)
    hidden[0] = 0.0
    found = rms_norm.rms_norm(hidden, weight, 1e-5)
    expected = rms_norm.reference.rms_norm(hidden, weight, 1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("heads", "count", "size"), [(1, 1, 2), (5, 4, 6), (15, 12, 64)])
def test_rotation_equals_the_reference(heads: int, count: int, size: int) -> None:
    vectors = torch.randn(4, heads, size)
    cosine, sine = torch.randn(4, size), torch.randn(4, size)
    found = rotary.rotate_first_heads(vectors, count, cosine, sine)
    expected = rotary.reference.rotate(vectors[:, :count], cosine[:, None], sine[:, None])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("page_size", [1, 3, 8])
def test_writing_tokens_equals_the_reference(dtype: torch.dtype, page_size: int) -> None:
    """Token by token from ragged slots; everything outside them stays as it was."""
    shape, pages = (3, 2, 24, 5), 24 // page_size
    buffers = tuple(torch.full(shape, torch.nan).to(dtype) for _ in range(2))
    expected = tuple(buffer.clone() for buffer in buffers)
    low = torch.full((3, 2, pages, 5), torch.inf).to(dtype)
    bounds, expected_bounds = (low, -low), (low.clone(), -low)
    for step in range(9):
        slots = torch.tensor([0, 5, 14]) + step
        new = (torch.randn(3, 2, 5), torch.randn(3, 2, 5))
        with_bounds = step != 4
        kv_write.write_tokens(new, buffers, bounds if with_bounds else None, slots, page_size)
        for buffer, tokens in zip(expected, new, strict=True):
            kv_write.reference.write_token(buffer, tokens, slots)
        if with_bounds:
            kv_write.reference.extend_bounds(*expected_bounds, expected[0], slots, page_size)
    for found, wanted in zip((*buffers, *bounds), (*expected, *expected_bounds), strict=True):
        assert torch.equal(found.nan_to_num(9.0), wanted.nan_to_num(9.0))
    for row, first in enumerate((0, 5, 14)):
        page = first // page_size
        seen = buffers[0][row, :, first : min((page + 1) * page_size, first + 4)]
        assert (bounds[0][row, :, page] <= seen.amin(1)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [8, 64])
def test_4_bit_keys_stay_current_as_tokens_are_written(dtype: torch.dtype, size: int) -> None:
    shape = (3, 2, 24, size)
    buffers = tuple(torch.randn(shape).to(dtype) for _ in range(2))
    codes = tuple(part.contiguous() for part in encode_keys(buffers[0]))
    for step in range(9):
        slots = torch.tensor([0, 5, 14]) + step
        new = (torch.randn(3, 2, size), torch.randn(3, 2, size))
        kv_write.write_tokens(new, buffers, None, slots, 8, codes)
        assert torch.equal(buffers[0][1, :, 5 + step], new[0][1].to(dtype))
    for found, wanted in zip(codes, encode_keys(buffers[0]), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 7), (5, 49152)])
@pytest.mark.parametrize("scale", [0.01, 8.0, 1000.0])
def test_log_softmax_and_entropy_equal_the_reference(rows: int, size: int, scale: float) -> None:
    logits = torch.randn(rows, size) * scale
    found = log_softmax.log_softmax_and_entropy(logits)
    expected = log_softmax.reference.log_softmax_and_entropy(logits.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5 + 1e-6 * scale)


@pytest.mark.parametrize("sign", [1, -1])
def test_impossible_tokens_have_no_probability_and_nan_stays_visible(sign: int) -> None:
    logits = torch.randn(3, 40)
    logits[0, ::2] = -torch.inf
    logits[1, 7] = torch.tensor(torch.nan).copysign(torch.tensor(float(sign)))
    log_probabilities, entropy = log_softmax.log_softmax_and_entropy(logits)
    rest = log_softmax.reference.log_softmax_and_entropy(logits[:1, 1::2])
    assert log_probabilities[0, ::2].isneginf().all()
    torch.testing.assert_close(log_probabilities[:1, 1::2], rest[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy[:1], rest[1], rtol=1e-5, atol=1e-5)
    assert log_probabilities[1].isnan().all()
    assert entropy[1].isnan()
    assert log_probabilities[2].isfinite().all()
    assert entropy[2].isfinite()


@given(
    size=st.integers(1, 5000),
    count=st.integers(1, 8),
    levels=st.sampled_from([1, 2, 40, 10**6]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_the_largest_few_are_those_of_the_reference(
    size: int, count: int, levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-levels, levels + 1, (size,), generator=generator) / 7 + 0.1
    values[torch.rand(size, generator=generator) < 0.3] = -torch.inf
    count = min(count, size)
    found = top_k.top_k(values, count)
    for one, other in zip(found, top_k.reference.top_k(values, count), strict=True):
        assert torch.equal(one, other)


prefills = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 3),
        "heads": st.sampled_from([(1, 1), (3, 1), (8, 2), (4, 4)]),
        "new": st.integers(1, 70),
        "before": st.sampled_from([0, 1, 7, 300]),
        "size": st.sampled_from([16, 64, 80]),
        "window": st.sampled_from([None, 1, 9, 64, 1000]),
        "seed": st.integers(0, 1000),
    }
)
PREFILL = {"rows": 2, "heads": (6, 2), "new": 64, "before": 300, "size": 64, "seed": 0}


def _prefill(shape: dict[str, Any]) -> tuple[Tensor, KVBlock]:
    generator = torch.Generator().manual_seed(shape["seed"])
    (heads, kv_heads), cached = shape["heads"], shape["before"] + shape["new"]
    query = torch.randn(shape["rows"], shape["new"], heads, shape["size"], generator=generator)
    room = (shape["rows"], kv_heads, cached + 5, shape["size"])  # a cache has room for more
    keys, values = (torch.randn(room, generator=generator)[:, :, :cached] for _ in range(2))
    return 3 * query.transpose(1, 2), KVBlock(keys, values)


@given(shape=prefills)
@settings(max_examples=60)
def test_causal_attention_equals_the_reference(shape: dict[str, Any]) -> None:
    query, block = _prefill(shape)
    found = causal_attention(query, block, scale=0.3, window=shape["window"])
    expected = causal.causal_attention(query, block, scale=0.3, window=shape["window"])
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


def test_bfloat16_of_a_prefill_is_widened_exactly_and_rounded_once() -> None:
    query, block = _prefill(PREFILL)
    narrow = KVBlock(block.keys.bfloat16(), block.values.bfloat16())
    wide = KVBlock(narrow.keys.float(), narrow.values.float())
    found = causal_attention(query, narrow, scale=0.1, window=None)
    expected = causal.causal_attention(query, wide, scale=0.1, window=None)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=1e-5)


def test_a_tokens_bits_do_not_depend_on_those_after_it() -> None:
    query, block = _prefill(PREFILL | {"before": 0})
    whole = causal_attention(query, block, scale=0.1, window=None)
    part = KVBlock(block.keys[:, :, :32], block.values[:, :, :32])
    first = causal_attention(query[:, :, :32], part, scale=0.1, window=None)
    assert torch.equal(first, whole[:, :, :32])


@pytest.mark.parametrize("change", [{"size": 20}, {"cap": 5.0}, {"new": 15}])
def test_what_suits_the_prefills_kernel_less_goes_to_the_reference(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LookupError

    monkeypatch.setattr(prefill, "MANY_ROWS", 16)
    monkeypatch.setattr(causal, "causal_attention", refuse)
    query, block = _prefill(PREFILL)
    causal_attention(query, block, scale=0.1, window=None)
    query, block = _prefill(PREFILL | change)
    with pytest.raises(LookupError):
        causal_attention(query, block, scale=0.1, window=None, cap=change.get("cap"))
