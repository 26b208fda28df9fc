"""The CPU kernels against their references, which define them."""

import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels import (
    activation_quantisation,
    channel_pruning,
    gated_mlp,
    kv_write,
    log_softmax,
    page_attention,
    residual,
)
from kernels import causal_attention as prefill
from kernels.activation_quantisation import reference as quantisation
from kernels.causal_attention import causal_attention
from kernels.causal_attention import reference as causal
from kernels.channel_pruning import reference as pruning
from kernels.key_codes import encode_keys
from kernels.log_softmax import top_k
from kernels.page_attention import AttentionPlan, KVBlock
from kernels.page_attention import reference as attention
from kernels.page_scorers import INT4
from tests.kernels.triton_cases import kept_pages, same_counts, some_floors

TOLERANCE = 1e-5  # 16 bits widen exactly, and sums are in fp32
SHARE = 0.4
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

shapes = st.fixed_dictionaries(
    {
        "texts": st.integers(1, 3),
        "group": st.sampled_from([3, 5]),
        "order": st.sampled_from([None, [0, 1, 2], [2, 0, 2]]),  # texts, repeatedly
        "heads": st.sampled_from([(1, 1), (3, 1), (9, 3), (8, 1), (2, 2)]),
        "shared_pages": st.integers(0, 5),
        "own": st.integers(1, 19),
        "page_size": st.sampled_from([1, 3, 8]),
        "size": st.sampled_from([16, 64, 72, 80]),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
        "seed": st.integers(0, 1000),
    }
)


@pytest.fixture(autouse=True)
def _any_number_of_rows(monkeypatch):
    for module in (channel_pruning, residual, kv_write):
        monkeypatch.setattr(module, "MANY_ROWS", 1)
    # Right where it is not the fastest, too.
    monkeypatch.setattr(prefill, "MANY_ROWS", 1)
    monkeypatch.setattr(prefill, "_suits", lambda size: size % 16 == 0)


# The choice that there are kernels for; a plan of another goes to the reference whatever it reads.
WHOLE = AttentionPlan(8, scorer=INT4, choice="group")


def _block(rows, heads, tokens, shape, generator):
    """Keys as the cache gives them: a view of a longer buffer whose rest is NaN."""
    keys, values = (
        torch.full((rows, heads, tokens + 5, shape["size"]), torch.nan).to(shape["dtype"])
        for _ in range(2)
    )
    for buffer in (keys, values):
        new = torch.randn(rows, heads, tokens, shape["size"], generator=generator)
        buffer[:, :, :tokens] = new.to(shape["dtype"])
    seen = keys[:, :, :tokens]
    whole = torch.nn.functional.pad(seen, (0, 0, 0, 16 - tokens % 8))
    codes, scales = (part.contiguous()[:, :, : -(-tokens // 8)] for part in encode_keys(whole))
    return KVBlock(seen, values[:, :, :tokens], codes=codes, scales=scales)


def _case(shape, masked, generator):
    """Queries, blocks, which tokens rows see (the newest and a stretch before), and their spans."""
    heads, kv_heads = shape["heads"]
    order = None if shape["order"] is None else torch.tensor(shape["order"][: shape["texts"]])
    order = None if order is None else order.clamp(max=shape["texts"] - 1)
    rows = shape["texts"] * shape["group"]
    query = torch.randn(rows, heads, shape["size"], generator=generator)
    blocks = [_block(rows, kv_heads, shape["own"], shape, generator)]
    shared = shape["shared_pages"] * shape["page_size"]
    if shared:
        block = _block(shape["texts"], kv_heads, shared, shape, generator)
        blocks.insert(0, dataclasses.replace(block, sources=order))
    width = shared + shape["own"]
    first = torch.randint(width, (rows, 1), generator=generator)
    valid = torch.arange(width)[None] >= first if masked else None
    spans = torch.tensor([[shared], [shape["own"] - 1], [0]]).repeat(1, rows)
    if masked:
        spans[2] = first[:, 0]
    return query * shape["size"] ** -0.5, blocks, valid, spans


def _check(query, blocks, plan):
    assert page_attention.cpu_kernel_fits(query, blocks, plan)
    expected = attention.attend(query, blocks, plan)
    observed = plan.tokens_per_page is not None
    for share in (0.0, SHARE)[: 1 + observed]:
        found = page_attention.attend(query, blocks, plan, share)
        torch.testing.assert_close(found.mixed, expected.mixed, rtol=TOLERANCE, atol=TOLERANCE)
        same_counts(found, expected)
        if share:
            mass = attention.mass_outside(query, blocks, plan, SHARE)
            torch.testing.assert_close(found.outside, mass, rtol=1e-4, atol=1e-5)


@given(shape=shapes, masked=st.booleans(), sparse=st.booleans())
@settings(max_examples=80)
def test_attention_equals_the_reference(shape, masked, sparse):
    generator = torch.Generator().manual_seed(shape["seed"])
    query, blocks, valid, spans = _case(shape, masked, generator)
    rows, page_size = query.shape[0], shape["page_size"]
    width = sum(block.keys.shape[2] for block in blocks)
    seen = torch.ones(rows, width, dtype=torch.bool) if valid is None else valid
    padded = torch.nn.functional.pad(seen, (0, -width % page_size))
    tokens = padded.unflatten(1, (-1, page_size)).sum(-1)
    floors = some_floors(rows, generator)
    how = {"scorer": INT4, "choice": "group", "spans": spans}
    if sparse:
        how |= {"pages_kept": kept_pages(floors), "floors": floors}
    _check(
        query, blocks, AttentionPlan(page_size, valid, tokens > 0, tokens_per_page=tokens, **how)
    )
    if not sparse:
        _check(query, blocks, AttentionPlan(page_size, valid, **how))


def test_a_dense_row_has_the_same_bits_beside_sparse_ones():
    generator = torch.Generator().manual_seed(1)
    shape = {"size": 32, "page_size": 8, "dtype": torch.float32}
    block = _block(6, 3, 37, shape, generator)
    query = torch.randn(6, 9, 32, generator=generator)
    dense = page_attention.attend(query, [block], WHOLE).mixed
    floors = torch.tensor([0.0, 9.0, 1.0, 2.0, 0.0, 0.5])
    pages = torch.ones(6, 5, dtype=torch.bool)
    how = {"scorer": INT4, "choice": "group", "floors": floors}
    plan = AttentionPlan(8, None, pages, kept_pages(floors), **how)
    mixed = page_attention.attend(query, [block], plan).mixed
    assert torch.equal(mixed[[0, 4]], dense[[0, 4]])
    assert not torch.allclose(mixed[1], dense[1])


def test_large_scores_do_not_overflow(generator):  # unseeded, rounding may decide near ties
    keys = torch.randn(5, 1, 16, 16, generator=generator) * 100
    query, plan = torch.randn(5, 2, 16, generator=generator) * 100, WHOLE
    block = KVBlock(keys, keys)
    found = page_attention.attend(query, [block], plan).mixed
    expected = attention.attend(query, [block], plan).mixed
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_other_layouts_and_dtypes_go_to_the_reference():
    query, keys = torch.randn(6, 2, 16), torch.randn(6, 2, 8, 16)
    block = KVBlock(keys, keys)
    assert page_attention.cpu_kernel_fits(query, [block], WHOLE)
    seen = torch.ones(6, 8, dtype=torch.bool)  # and nothing that says it in numbers
    for case in (
        (query, [KVBlock(keys.mT, keys)], WHOLE),
        (query.double(), [block], WHOLE),
        (query, [KVBlock(keys.half(), keys.half())], WHOLE),
        (query, [block] * 3, WHOLE),
        (query, [block], dataclasses.replace(WHOLE, valid_tokens=seen)),
        (query, [block], AttentionPlan(8)),
    ):
        assert not page_attention.cpu_kernel_fits(*case)


@given(
    shape=st.tuples(st.integers(1, 6), st.sampled_from([1, 2, 31, 576, 1536])),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([0.0, 1e-12, 1.0, 100.0]),
    data=st.data(),
)
def test_pruning_and_quantisation_equal_the_references_bit_for_bit(shape, dtype, scale, data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    values = (torch.randn(shape, generator=generator) * scale).to(dtype)
    values[0] = values[0].round()  # with ties
    norms = torch.rand(shape[1], generator=generator)
    norms[::5] = 0.0  # channels that add nothing
    kept = torch.randint(1, shape[1] + 1, shape[:1], generator=generator)
    bits = torch.randint(2, 17, shape[:1], generator=generator)
    for ours, theirs, how in (
        (channel_pruning, pruning, ("keep_largest_channels", kept)),
        (channel_pruning, pruning, ("keep_heaviest_channels", norms, kept)),
        (activation_quantisation, quantisation, ("fake_quantise", bits)),
        (activation_quantisation, quantisation, ("fake_quantise", bits, 32)),
    ):
        found, expected = (getattr(one, how[0])(values, *how[1:]) for one in (ours, theirs))
        assert torch.equal(found, expected)


def test_quantisation_keeps_nan_visible():
    values = torch.ones(1, 8)
    values[0, 3] = torch.nan
    assert activation_quantisation.fake_quantise(values, torch.tensor([8])).isnan().all()


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_a_block_that_is_not_finite_stays_visible_and_spoils_no_other(odd):
    values, bits = torch.randn(2, 70), torch.tensor([8, 3])
    values[0, 40] = odd
    found = activation_quantisation.fake_quantise(values, bits, 32)
    assert torch.equal(found.isnan().any(1), torch.tensor([True, False]))
    assert found[0, 32:64].isnan().all()
    assert found[0, :32].isfinite().all()
    assert torch.equal(found[0, 64:], quantisation.fake_quantise(values[:1, 64:], bits[:1])[0])


@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (5, 577)])
def test_norm_equals_the_reference(rows, channels):
    hidden, weight = torch.randn(rows, channels) * 30, torch.randn(channels)
    hidden[0] = 0.0
    found = residual.rms_norm(hidden, weight, 1e-5)
    expected = residual.reference.rms_norm(hidden, weight, 1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "count"), [((4, 1, 2), 1), ((4, 15, 64), 12), ((2, 4, 9, 8), 6)])
def test_rotation_equals_the_reference(dtype, shape, count):
    vectors = torch.randn(shape).to(dtype)
    cosine, sine = torch.randn(4, shape[-1]), torch.randn(4, shape[-1])
    query, key, value = kv_write.rotated(vectors, shape[-2] - count, cosine, sine)
    found = torch.cat((query, key), -2)
    assert torch.equal(value, vectors[..., count:, :])
    some = vectors[..., :count, :].float()
    expected = kv_write.reference.rotate(some, cosine[:, None], sine[:, None])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("update", [None, *DTYPES])
def test_a_prefill_enters_halves_as_the_reference_does(dtype, update):
    hidden, norm = torch.randn(2, 5, 77) * 30, torch.randn(77)
    added = None if update is None else torch.randn(2, 5, 77).to(update)
    of = residual.Residual(hidden, added, norm, 1e-5)
    (stream, normed), (right, wanted) = (
        add(of, dtype) for add in (residual.add_and_norm, residual.reference.add_and_norm)
    )
    assert torch.equal(stream, right)
    torch.testing.assert_close(normed, wanted)
    alone = residual.add_and_norm(of._replace(hidden=hidden[1:, 2:3], update=None), dtype)[1]
    among = residual.add_and_norm(of._replace(update=None), dtype)[1]
    assert torch.equal(alone[0, 0], among[1, 2]), "whatever runs beside it"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_a_prefill_activates_as_the_reference_does(dtype, activation):
    gate_up = (torch.randn(2, 5, 154) * 5).to(dtype)
    gate_up[0, 0, :3] = torch.tensor([torch.inf, torch.nan, -200.0])
    found = gated_mlp.activated(gate_up, activation)
    expected = gated_mlp.reference.activated(gate_up.float(), activation).to(dtype)
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [8, 64])
def test_writing_tokens_equals_the_reference(dtype, size):
    """Token by token from ragged slots, with 4-bit keys; the rest stays as it was."""
    buffers = tuple(torch.randn(2, 3, 2, 24, size).to(dtype))
    expected = tuple(buffer.clone() for buffer in buffers)
    codes = tuple(part.contiguous() for part in encode_keys(buffers[0]))
    for step in range(9):
        slots, new = torch.tensor([0, 5, 14]) + step, tuple(torch.randn(2, 3, 2, size))
        kv_write.write_tokens(new, buffers, slots, codes)
        for buffer, tokens in zip(expected, new, strict=True):
            kv_write.reference.write_token(buffer, tokens, slots)
    right = (*expected, *encode_keys(expected[0]))
    for one, other in zip((*buffers, *codes), right, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 7), (5, 49152)])
@pytest.mark.parametrize("scale", [0.01, 8.0, 1000.0])
def test_log_softmax_and_entropy_equal_the_reference(rows, size, scale):
    logits = torch.randn(rows, size) * scale
    found = log_softmax.log_softmax_and_entropy(logits)
    expected = log_softmax.reference.log_softmax_and_entropy(logits.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5 + 1e-6 * scale)


def test_impossible_tokens_have_no_probability_and_nan_stays_visible():
    logits = torch.randn(3, 40)
    logits[0, ::2] = -torch.inf
    logits[1, 7] = -torch.nan
    log_probabilities, entropy = log_softmax.log_softmax_and_entropy(logits)
    rest = log_softmax.reference.log_softmax_and_entropy(logits[:1, 1::2])
    assert log_probabilities[0, ::2].isneginf().all()
    torch.testing.assert_close(log_probabilities[:1, 1::2], rest[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy[:1], rest[1], rtol=1e-5, atol=1e-5)
    assert log_probabilities[1].isnan().all()
    assert entropy[1].isnan()
    assert log_probabilities[2].isfinite().all()


@given(
    size=st.integers(1, 5000),
    count=st.integers(1, 8),
    levels=st.sampled_from([1, 2, 40, 10**6]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_the_largest_few_are_those_of_a_stable_sort(size, count, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-levels, levels + 1, (size,), generator=generator) / 7 + 0.1
    values[torch.rand(size, generator=generator) < 0.3] = -torch.inf
    count = min(count, size)
    ranked = values.sort(descending=True, stable=True)
    for one, other in zip(top_k(values, count), ranked, strict=True):
        assert torch.equal(one, other[:count])


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


def _prefill(shape):
    generator = torch.Generator().manual_seed(shape["seed"])
    (heads, kv_heads), cached = shape["heads"], shape["before"] + shape["new"]
    query = torch.randn(shape["rows"], shape["new"], heads, shape["size"], generator=generator)
    room = (shape["rows"], kv_heads, cached + 5, shape["size"])  # a cache has room for more
    keys, values = (torch.randn(room, generator=generator)[:, :, :cached] for _ in range(2))
    return 3 * query.transpose(1, 2), KVBlock(keys, values)


@given(shape=prefills)
@settings(max_examples=40)
def test_causal_attention_equals_the_reference(shape):
    query, block = _prefill(shape)
    found = causal_attention(query, block, scale=0.3, window=shape["window"])
    expected = causal.causal_attention(query, block, scale=0.3, window=shape["window"])
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("unit", ["tiles", "vectors", "neither"])
@given(shape=prefills, size=st.sampled_from([64, 80, 128]))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_prefill_in_bfloat16_is_as_exact_as_torchs(monkeypatch, unit, shape, size):
    enough = 1 + 500 // (shape["new"] * shape["heads"][0])  # the errors of few queries are chance
    query, block = _prefill(shape | {"size": size, "rows": max(shape["rows"], enough)})
    narrow = KVBlock(block.keys.bfloat16(), block.values.bfloat16())
    wide = KVBlock(narrow.keys.float(), narrow.values.float())
    how = {"scale": 0.3, "window": shape["window"]}
    exact = causal.causal_attention(query, wide, **how)
    if unit == "neither":
        monkeypatch.setattr(prefill, "_multiplies_pairs", lambda keys: False)
    elif unit == "vectors" and prefill._multiplies_pairs(torch.zeros(1, 1, 1, 64).bfloat16()):
        monkeypatch.setattr("kernels.causal_attention.cpu.has_tiles", lambda: False)
    found = causal_attention(query, narrow, **how)
    assert found.dtype == torch.bfloat16
    errors = [
        float((attended.float() - exact).square().mean().sqrt())
        for attended in (found, causal.causal_attention(query, narrow, **how))
    ]
    assert errors[0] <= 1.3 * errors[1] + 1e-4


def test_what_is_not_a_number_stays_so_in_a_prefill():
    query, block = _prefill(PREFILL)
    narrow = KVBlock(block.keys.bfloat16(), block.values.bfloat16())
    query[0, 1, 5] = torch.nan
    found = causal_attention(query, narrow, scale=0.1, window=None)
    assert found[0, 1, 5].isnan().all()
    assert not found[1].isnan().any()
    assert not found[0, 0].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tokens_bits_do_not_depend_on_those_after_it(dtype):
    query, block = _prefill(PREFILL | {"before": 0})
    block = KVBlock(block.keys.to(dtype), block.values.to(dtype))
    whole = causal_attention(query, block, scale=0.1, window=None)
    part = KVBlock(block.keys[:, :, :32], block.values[:, :, :32])
    first = causal_attention(query[:, :, :32], part, scale=0.1, window=None)
    assert torch.equal(first, whole[:, :, :32])


@pytest.mark.parametrize("change", [{"size": 20}, {"cap": 5.0}, {"new": 15}])
def test_what_suits_the_prefills_kernel_less_goes_to_the_reference(monkeypatch, change):
    def refuse(*_, **__):
        raise LookupError

    monkeypatch.setattr(prefill, "MANY_ROWS", 16)
    monkeypatch.setattr(causal, "causal_attention", refuse)
    causal_attention(*_prefill(PREFILL), scale=0.1, window=None)
    query, block = _prefill(PREFILL | change)
    with pytest.raises(LookupError):
        causal_attention(query, block, scale=0.1, window=None, cap=change.get("cap"))
