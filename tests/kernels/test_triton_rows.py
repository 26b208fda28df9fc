"""MLP, pruning, quantisation, norm and cache writes in Triton against their references."""

from dataclasses import replace

import pytest
import torch

from kernels import activation_quantisation, channel_pruning, gated_mlp, kv_write, residual
from kernels.channel_pruning import keep_heaviest_channels, keep_largest_channels
from kernels.gated_mlp import (
    MlpPlan,
    MlpWeights,
    activated,
    fused_gated_mlp,
    reference,
)
from kernels.gpu.triton_support import KernelInputError
from kernels.kv_write import NewTokens
from kernels.kv_write import reference as writing
from kernels.residual import Residual
from tests.kernels.triton_cases import DEVICE, DTYPES, ROUNDED, close, triton_here


@pytest.fixture(autouse=True)
def _on_triton():
    with triton_here():
        yield


def _weights(width, inner, dtype, activation, *, biased):
    generator = torch.Generator().manual_seed(width)

    def random(*shape):
        numbers = torch.randn(*shape, generator=generator) * shape[0] ** -0.5
        return numbers.to(DEVICE, dtype)

    biases = (random(2 * inner), random(width)) if biased else (None, None)
    norms = torch.rand(inner, generator=generator).to(DEVICE)  # any: they decide who is kept
    return MlpWeights(random(width, 2 * inner), random(inner, width), *biases, activation, norms)


def _mlp(hidden, weights, plan):
    """The MLP of rows that are normalised already."""
    entered = fused_gated_mlp(Residual(hidden, None, None, 1e-5), weights, plan)
    assert torch.equal(entered[0], hidden)
    return entered[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case",  # rows, width, inner, activation, biased, site, block, splits, both
    [
        (1, 96, 176, "silu", False, None, 0, False, True),
        (3, 41, 72, "silu", True, "output", 0, True, False),
        (2, 96, 70, "gelu_tanh", False, "inputs", 0, True, True),
        (18, 40, 33, "gelu_tanh", True, "inputs", 0, False, False),
        (1, 96, 176, "silu", False, "output", 32, False, True),
        (2, 41, 70, "silu", False, "inputs", 32, True, True),
        (18, 70, 41, "silu", True, "inputs", 32, False, False),
    ],
)
def test_the_mlp_equals_the_reference(dtype, case, monkeypatch, generator):
    """Rows of different levels in one launch; with ``both``, inner channels are pruned, too."""
    rows, width, inner, activation, biased, site, block, splits, both = case
    monkeypatch.setattr(gated_mlp, "TARGET_PROGRAMS", 6 if splits else 1)
    monkeypatch.setattr(gated_mlp, "CHANNELS_PER_SPLIT", 32)
    weights = _weights(width, inner, dtype, activation, biased=biased)
    hidden = torch.randn(rows, width, generator=generator).to(DEVICE)
    # In 16 bits another order of sums flips roundings: only fine levels stay within tolerance.
    lowest = 4 if dtype == torch.float32 else 13
    kept, bits, inner_kept = (
        torch.randint(low, high + 1, (rows,), generator=generator).to(DEVICE)
        for low, high in ((1, width), (lowest, 16), (1, inner))
    )
    bits = None if site is None else bits
    plan = MlpPlan(kept, bits, site == "inputs", inner_kept if both else None, block)
    found = _mlp(hidden, weights, plan)
    assert found.dtype == dtype
    close(found, reference.gated_mlp(hidden, weights, plan), ROUNDED[dtype])


@pytest.mark.parametrize("quant_block", [0, 32])
@pytest.mark.parametrize("rows", [1, 2])
def test_long_rows_are_ranked_by_several_programs(rows, quant_block, monkeypatch, generator):
    """To the same numbers as where one program does it."""
    weights = _weights(70, 1100, torch.float32, "silu", biased=False)
    hidden = torch.randn(rows, 70, generator=generator).to(DEVICE)
    kept, bits, inner = (
        torch.tensor(counts[:rows], device=DEVICE) for counts in ([40, 70], [5, 9], [700, 3])
    )
    plan = MlpPlan(kept, bits, True, inner, quant_block)
    short = _mlp(hidden, weights, plan)
    for module in (gated_mlp, residual):
        monkeypatch.setattr(module, "MAX_AT_ONCE", 0)
    monkeypatch.setattr(residual, "_RANKED_AT_ONCE", 256)
    monkeypatch.setattr(gated_mlp, "MAX_LISTED", 100)  # one side lists its channels itself
    close(_mlp(hidden, weights, plan), short, 1e-5)  # in another order


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("split", [False, True])
def test_a_dense_row_of_a_small_mlp_is_two_kernels(dtype, split, monkeypatch, generator):
    monkeypatch.setattr(gated_mlp, "TARGET_PROGRAMS", 6 if split else 1)
    monkeypatch.setattr(gated_mlp, "CHANNELS_PER_SPLIT", 32)
    weights = _weights(96, 70, dtype, "gelu_tanh", biased=True)
    hidden, update, norm = torch.randn(3, 1, 96, generator=generator).to(DEVICE)
    entering = Residual(hidden, update.to(dtype), norm[0], 1e-5)
    stream, output = fused_gated_mlp(entering, weights, MlpPlan())
    expected, normed = residual.reference.add_and_norm(entering)
    assert torch.equal(stream, expected)
    close(output, reference.gated_mlp(normed, weights, MlpPlan()), ROUNDED[dtype])
    two_rows = entering._replace(hidden=hidden.expand(2, -1), update=None)
    assert fused_gated_mlp(two_rows, weights, MlpPlan()) is None
    for name in ("MAX_AT_ONCE", "MAX_DENSE"):
        monkeypatch.setattr(gated_mlp, name, 95)
        assert fused_gated_mlp(entering, weights, MlpPlan()) is None
        monkeypatch.undo()


def test_weights_of_pruned_channels_are_not_read():
    """Their rows hold NaN; a product that touched them would show it."""
    weights = _weights(32, 16, torch.float32, "silu", biased=False)
    hidden = torch.arange(1.0, 33.0, device=DEVICE)[None]
    plan = MlpPlan(torch.tensor([8], device=DEVICE))
    weights.gate_up[:24] = torch.nan
    assert _mlp(hidden, weights, plan).isfinite().all()
    weights.gate_up[24] = torch.nan
    assert _mlp(hidden, weights, plan).isnan().all()


def test_rows_of_down_that_no_row_keeps_are_not_read():
    weights = _weights(32, 48, torch.float32, "silu", biased=False)
    hidden = torch.randn(2, 32, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    channels = torch.tensor([20, 32], device=DEVICE)
    plan = MlpPlan(channels, inner_kept=torch.tensor([5, 11], device=DEVICE))
    expected = _mlp(hidden, weights, plan)
    inner = activated(keep_largest_channels(hidden, channels)[None] @ weights.gate_up, "silu")[0]
    read = keep_heaviest_channels(inner, weights.down_norms, plan.inner_kept).any(0)
    weights.down[~read] = torch.nan
    assert torch.equal(_mlp(hidden, weights, plan), expected)
    weights.down[int(read.nonzero()[-1])] = torch.nan
    assert _mlp(hidden, weights, plan).isnan().any()


def test_equal_weights_go_to_the_lowest_inner_channels():
    """As many as asked for, though more weigh the same."""
    weights = _weights(8, 1100, torch.float32, "silu", biased=False)
    weights.gate_up[:] = 0.25
    weights.down_norms[:] = 1.0
    hidden = torch.ones(3, 8, device=DEVICE)
    kept = torch.tensor([1, 700, 1100], device=DEVICE)
    plan = MlpPlan(torch.tensor([8, 8, 8], device=DEVICE), inner_kept=kept)
    found = _mlp(hidden, weights, plan)
    activation = torch.nn.functional.silu(torch.tensor(2.0)) * 2
    sums = torch.stack([weights.down[: int(n)].sum(0) for n in kept])
    close(found, activation.to(DEVICE) * sums, 1e-4)


def test_what_only_the_reference_takes_is_left_to_it():
    weights = _weights(16, 16, torch.float32, "silu", biased=False)
    entering = Residual(torch.randn(1, 16, device=DEVICE), None, None, 1e-5)
    transposed = MlpWeights(weights.gate_up, weights.down.t().contiguous().t())
    quantised = MlpPlan(bit_widths=torch.tensor([5], device=DEVICE))
    assert fused_gated_mlp(entering, weights, quantised) is None
    plan = MlpPlan(torch.tensor([3], device=DEVICE))
    assert fused_gated_mlp(entering, transposed, plan) is None


@pytest.mark.parametrize(
    ("name", "weights", "plan"),
    [
        ("down must be", {"down": torch.ones(16, 32)}, {}),
        ("gate_up must be on", {"gate_up": torch.ones(16, 32, device="meta")}, {}),
        ("down_norms must be", {"down_norms": None}, {}),
        ("down_norms must be", {"down_norms": torch.ones(3)}, {}),
        ("channels_kept must be", {}, {"channels_kept": torch.tensor([3, 3])}),
        ("inner_kept must be", {}, {"inner_kept": torch.tensor([3], dtype=torch.int32)}),
    ],
)
def test_wrong_arguments_of_the_mlp_are_named(name, weights, plan):
    counts = torch.tensor([3])
    wrong = replace(_weights(16, 16, torch.float32, "silu", biased=False), **weights)
    entering = Residual(torch.randn(1, 16), None, None, 1e-5)
    with pytest.raises(KernelInputError, match=name):
        fused_gated_mlp(entering, wrong, replace(MlpPlan(counts, inner_kept=counts), **plan))


def test_pruning_equals_the_reference_bit_for_bit(generator):
    levels = torch.tensor([-3.5, -2.0, -1.0, -0.0, 0.0, 1e-3, 1.0, 2.0, 7.25])
    hidden = levels[torch.randint(9, (7, 45), generator=generator)].to(DEVICE)
    kept = torch.tensor([1, 2, 9, 22, 43, 44, 45], device=DEVICE)
    found = channel_pruning.keep_largest_channels(hidden, kept)
    assert torch.equal(found, channel_pruning.reference.keep_largest_channels(hidden, kept))


@pytest.mark.parametrize("numbers", ["any", "alike", "two", "few bits", "zeros"])
def test_wide_rows_are_pruned_bit_for_bit(numbers, monkeypatch, generator):
    """By several programs, also where most or all weigh the same."""
    monkeypatch.setattr(residual, "MAX_AT_ONCE", 1)
    monkeypatch.setattr(residual, "_RANKED_AT_ONCE", 256)
    hidden = torch.randn(4, 1000, generator=generator)
    if numbers == "alike":
        hidden[:] = -0.3
    elif numbers == "two":
        hidden = torch.where(hidden > 0, 1.0, 1.0 + 2**-23)
    elif numbers == "few bits":
        hidden = (hidden * 2).round() * 1e-3
    elif numbers == "zeros":
        hidden[hidden > -1] = 0.0
    hidden = hidden.to(DEVICE)
    kept = torch.tensor([1, 7, 500, 1000], device=DEVICE)
    found = channel_pruning.keep_largest_channels(hidden, kept)
    expected = channel_pruning.reference.keep_largest_channels(hidden, kept)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("block", [0, 32])
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantisation_equals_the_reference_bit_for_bit(dtype, block, generator):
    scales = torch.tensor([0.0, 1e-12, 1.0, 100.0]).repeat(15)[:, None]
    values = (torch.randn(60, 70, generator=generator) * scales).to(DEVICE, dtype)
    bits = torch.arange(2, 17, device=DEVICE).repeat_interleave(4)
    found = activation_quantisation.fake_quantise(values, bits, block)
    expected = activation_quantisation.reference.fake_quantise(values, bits, block)
    assert torch.equal(found, expected)
    values[0, 3] = torch.nan
    spoilt = activation_quantisation.fake_quantise(values, bits, block)[0].isnan()
    assert spoilt.nonzero().flatten().tolist() == list(range(block or 70))


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_activations_equal_the_reference(dtype, activation):
    gate_up = torch.randn(3, 140, generator=torch.Generator().manual_seed(4)).to(DEVICE, dtype)
    found = activated(gate_up, activation)
    assert (found.shape, found.dtype) == ((3, 70), dtype)
    # A prefill's rows go to torch, which rounds once more in between.
    close(found, activated(gate_up[None].float(), activation)[0], ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [(1, 1, True, True), (3, 7, False, True), (2, 96, True, False)])
def test_what_enters_half_a_layer_equals_the_reference(dtype, case, generator):
    rows, width, added, normed = case
    hidden = (torch.randn(rows, width, generator=generator) * 30).to(DEVICE)
    hidden[0] = 0.0
    update = torch.randn(rows, width, generator=generator).to(DEVICE, dtype) if added else None
    norm = torch.randn(width, generator=generator).to(DEVICE) if normed else None
    entering, before = Residual(hidden, update, norm, 1e-5), hidden.clone()
    stream, entered = residual.add_and_norm(entering, dtype)
    expected = residual.reference.add_and_norm(entering, dtype)
    assert torch.equal(stream, expected[0])
    assert torch.equal(hidden, before)
    assert entered.dtype == dtype
    close(entered, expected[1], ROUNDED[dtype])


def _new_tokens(rows, heads, size, generator):
    """One token a row of a model with twice as many queries as KV heads, from anywhere."""
    angle = torch.randn(rows, size // 2, generator=generator).repeat(1, 2).to(DEVICE)
    made = torch.randn(rows, 4 * heads, size, generator=generator).to(DEVICE)
    return NewTokens(made, angle.cos(), angle.sin(), 0.125)


@pytest.mark.parametrize("dtype", DTYPES)
def test_writes_equal_the_reference(dtype, generator):
    """Rows of different lengths: queries are turned and scaled, keys turned, values as they are;
    one launch writes the 4-bit key, too, and its octet's other tokens stay as they are."""
    rows, heads, size = 4, 2, 24
    slots = torch.tensor([0, 7, 9, 19], device=DEVICE)
    buffers = torch.randn(2, rows, heads, 20, size, generator=generator).to(DEVICE, dtype)
    codes = torch.randint(256, (rows, heads, 3, 3, 8, 4), generator=generator).to(torch.uint8)
    scales = torch.randn(rows, heads, 3, 2, 8, generator=generator).bfloat16()
    codes, scales, written = codes.to(DEVICE), scales.to(DEVICE), buffers.clone()
    octets = codes.clone(), scales.clone()
    new = _new_tokens(rows, heads, size, generator)
    new.heads[2, 2 * heads] = 0.0  # no scale
    new.heads[3, 2 * heads] *= 1e4
    query, key, value = kv_write.rotated(new.heads, heads, new.cosine, new.sine)
    writing.write_token(buffers[0], key, slots)
    writing.write_token(buffers[1], value, slots)
    for _ in range(2):
        found = kv_write.rotate_and_write(new, (written[0], written[1]), slots, octets)
    close(found, query * 0.125, 1e-6)
    close(written[0], buffers[0], ROUNDED[dtype])
    assert torch.equal(written[1], buffers[1])
    writing.extend_codes(codes, scales, written[0][torch.arange(rows), :, slots], slots)
    for mine, right in zip(octets, (codes, scales), strict=True):
        assert torch.equal(mine, right)


@pytest.mark.skipif(DEVICE == "cuda", reason="layouts would change on the way to a GPU")
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("slots", torch.zeros(3, dtype=torch.int64)),
        ("heads", torch.zeros(2, 4, 8)),
        ("cosine", torch.zeros(2, 8)),
        ("sine", torch.zeros(2, 16, dtype=torch.float16)),
        ("values", torch.zeros(2, 1, 8, 16, dtype=torch.bfloat16)),
        ("values", torch.zeros(2, 1, 8, 16, device="meta")),
        ("codes", torch.zeros(2, 1, 2, 2, 8, 4, dtype=torch.uint8)),
        ("scales", torch.zeros(2, 1, 1, 2, 8, dtype=torch.bfloat16, device="meta")),
    ],
)
def test_wrong_writes_are_named(name, wrong):
    given = {
        "heads": torch.zeros(2, 4, 16),
        "cosine": torch.zeros(2, 16),
        "sine": torch.zeros(2, 16),
        "keys": torch.zeros(2, 1, 8, 16),
        "values": torch.zeros(2, 1, 8, 16),
        "codes": torch.zeros(2, 1, 1, 2, 8, 4, dtype=torch.uint8),
        "scales": torch.zeros(2, 1, 1, 2, 8, dtype=torch.bfloat16),
        "slots": torch.zeros(2, dtype=torch.int64),
    } | {name: wrong}
    heads, cosine, sine, keys, values, codes, scales, slots = given.values()
    new = NewTokens(heads, cosine, sine, 1.0)
    with pytest.raises(KernelInputError, match=f"^{name} must be"):
        kv_write.rotate_and_write(new, (keys, values), slots, (codes, scales))
