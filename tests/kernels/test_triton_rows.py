"""MLP, pruning, quantisation, norm and cache writes in Triton against their references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels import activation_quantisation, channel_pruning, kv_write, residual
from kernels.channel_pruning import keep_heaviest_channels, keep_largest_channels
from kernels.gated_mlp import (
    MlpPlan,
    MlpWeights,
    activated,
    fused_gated_mlp,
    reference,
    triton_dispatch,
)
from kernels.gpu.triton_support import KernelInputError, recorded_launches
from kernels.key_codes import encode_keys
from kernels.kv_write import NewTokens
from kernels.kv_write import reference as writing
from kernels.residual import Residual
from tests.kernels.triton_cases import DEVICE, DTYPES, ROUNDED, close, triton_here


@pytest.fixture(autouse=True)
def _on_triton() -> Iterator[None]:
    with triton_here():
        yield


def _weights(
    width: int, inner: int, dtype: torch.dtype, activation: str, *, biased: bool
) -> MlpWeights:
    generator = torch.Generator().manual_seed(width)

    def random(*shape: int) -> Tensor:
        numbers = torch.randn(*shape, generator=generator) * shape[0] ** -0.5
        return numbers.to(DEVICE, dtype)

    biases = (random(2 * inner), random(width)) if biased else (None, None)
    norms = torch.rand(inner, generator=generator).to(DEVICE)  # any: they decide who is kept
    return MlpWeights(random(width, 2 * inner), random(inner, width), *biases, activation, norms)  # type: ignore[arg-type]  # a literal at every call


def _mlp(hidden: Tensor, weights: MlpWeights, plan: MlpPlan) -> Tensor:
    """The MLP of rows that are normalised already."""
    entered = fused_gated_mlp(Residual(hidden, None, None, 1e-5), weights, plan)
    assert entered is not None
    assert torch.equal(entered[0], hidden)
    return entered[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("rows", "width", "inner", "activation", "biased", "site", "splits"),
    [
        (1, 96, 176, "silu", False, None, False),
        (3, 41, 72, "silu", True, "output", True),
        (2, 96, 70, "gelu_tanh", False, "inputs", True),
        (18, 40, 33, "gelu_tanh", True, "inputs", False),
    ],
)
def test_the_mlp_equals_the_reference(
    dtype: torch.dtype,
    rows: int,
    width: int,
    inner: int,
    activation: str,
    biased: bool,
    site: str | None,
    splits: bool,
    both: bool,
    monkeypatch: pytest.MonkeyPatch,
    generator: torch.Generator,
) -> None:
    """Rows of different levels in one launch; with ``both``, inner channels are pruned, too."""
    monkeypatch.setattr(triton_dispatch, "TARGET_PROGRAMS", 6 if splits else 1)
    monkeypatch.setattr(triton_dispatch, "CHANNELS_PER_SPLIT", 32)
    weights = _weights(width, inner, dtype, activation, biased=biased)
    hidden = torch.randn(rows, width, generator=generator).to(DEVICE)
    kept = torch.randint(1, width + 1, (rows,), generator=generator).to(DEVICE)
    # In 16 bits another order of sums flips roundings: only fine levels stay within tolerance.
    lowest = 4 if dtype == torch.float32 else 13
    bits = torch.randint(lowest, 17, (rows,), generator=generator).to(DEVICE)
    inner_kept = torch.randint(1, inner + 1, (rows,), generator=generator).to(DEVICE)
    plan = MlpPlan(
        kept, None if site is None else bits, site == "inputs", inner_kept if both else None
    )
    found = _mlp(hidden, weights, plan)
    assert found.dtype == dtype
    close(found, reference.gated_mlp(hidden, weights, plan), ROUNDED[dtype])


def test_weights_of_pruned_channels_are_not_read() -> None:
    """Their rows hold NaN; a product that touched them would show it."""
    weights = _weights(32, 16, torch.float32, "silu", biased=False)
    hidden = torch.arange(1.0, 33.0, device=DEVICE)[None]
    plan = MlpPlan(torch.tensor([8], device=DEVICE))
    expected = _mlp(hidden, weights, plan)
    weights.gate_up[:24] = torch.nan
    assert torch.equal(_mlp(hidden, weights, plan), expected)
    weights.gate_up[24] = torch.nan
    assert _mlp(hidden, weights, plan).isnan().all()


def test_rows_of_down_that_no_row_keeps_are_not_read() -> None:
    weights = _weights(32, 48, torch.float32, "silu", biased=False)
    hidden = torch.randn(2, 32, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    channels = torch.tensor([20, 32], device=DEVICE)
    plan = MlpPlan(channels, inner_kept=torch.tensor([5, 11], device=DEVICE))
    expected = _mlp(hidden, weights, plan)
    gate_up = (keep_largest_channels(hidden, channels) @ weights.gate_up).chunk(2, -1)
    inner = torch.nn.functional.silu(gate_up[0]) * gate_up[1]
    assert weights.down_norms is not None
    assert plan.inner_kept is not None
    read = keep_heaviest_channels(inner, weights.down_norms, plan.inner_kept).any(0)
    assert 11 <= read.sum() <= 16
    weights.down[~read] = torch.nan
    assert torch.equal(_mlp(hidden, weights, plan), expected)
    weights.down[int(read.nonzero()[-1])] = torch.nan
    assert _mlp(hidden, weights, plan).isnan().any()


def test_equal_weights_go_to_the_lowest_inner_channels() -> None:
    """As many as asked for, though more weigh the same."""
    weights = _weights(8, 1100, torch.float32, "silu", biased=False)
    weights.gate_up[:] = 0.25
    assert weights.down_norms is not None
    weights.down_norms[:] = 1.0
    hidden = torch.ones(3, 8, device=DEVICE)
    kept = torch.tensor([1, 700, 1100], device=DEVICE)
    plan = MlpPlan(torch.tensor([8, 8, 8], device=DEVICE), inner_kept=kept)
    found = _mlp(hidden, weights, plan)
    activation = torch.nn.functional.silu(torch.tensor(2.0)) * 2
    sums = torch.stack([weights.down[: int(n)].sum(0) for n in kept])
    close(found, activation.to(DEVICE) * sums, 1e-4)


def test_dense_rows_are_left_to_torch() -> None:
    weights = _weights(16, 16, torch.float32, "silu", biased=False)
    residual = Residual(torch.randn(1, 16, device=DEVICE), None, None, 1e-5)
    assert fused_gated_mlp(residual, weights, MlpPlan()) is None


def test_what_only_the_reference_takes_is_left_and_wrong_arguments_are_named() -> None:
    weights = _weights(16, 16, torch.float32, "silu", biased=False)
    plan = MlpPlan(torch.tensor([3], device=DEVICE))
    entering = Residual(torch.randn(1, 16, device=DEVICE), None, None, 1e-5)
    transposed = MlpWeights(weights.gate_up, weights.down.t().contiguous().t())
    assert fused_gated_mlp(entering, transposed, plan) is None
    with pytest.raises(KernelInputError, match="down must be"):
        fused_gated_mlp(entering, MlpWeights(weights.gate_up, weights.gate_up), plan)
    with pytest.raises(KernelInputError, match="channels_kept must be"):
        fused_gated_mlp(entering, weights, MlpPlan(torch.tensor([3, 3], device=DEVICE)))
    counts, norms = torch.tensor([3], device=DEVICE), torch.ones(16, device=DEVICE)
    both = MlpPlan(counts, inner_kept=counts)
    for wrong in (None, norms.double(), norms[:3]):
        with pytest.raises(KernelInputError, match="down_norms must be"):
            fused_gated_mlp(entering, replace(weights, down_norms=wrong), both)
    with pytest.raises(KernelInputError, match="inner_kept must be"):
        fused_gated_mlp(entering, weights, MlpPlan(counts, inner_kept=counts.int()))
    with pytest.raises(KernelInputError, match="gate_up must be on"):
        fused_gated_mlp(entering, MlpWeights(weights.gate_up.to("meta"), weights.down), plan)


def test_pruning_equals_the_reference_bit_for_bit() -> None:
    levels = torch.tensor([-3.5, -2.0, -1.0, -0.0, 0.0, 1e-3, 1.0, 2.0, 7.25])
    hidden = levels[torch.randint(9, (7, 45), generator=torch.Generator().manual_seed(1))]
    hidden = hidden.to(DEVICE)
    kept = torch.tensor([1, 2, 9, 22, 43, 44, 45], device=DEVICE)
    found = channel_pruning.keep_largest_channels(hidden, kept)
    assert torch.equal(found, channel_pruning.reference.keep_largest_channels(hidden, kept))
    assert torch.equal(found[-1], hidden[-1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 100.0])
def test_quantisation_equals_the_reference_bit_for_bit(dtype: torch.dtype, scale: float) -> None:
    values = torch.randn(15, 70, generator=torch.Generator().manual_seed(2)) * scale
    values = values.to(DEVICE, dtype)
    bits = torch.arange(2, 17, device=DEVICE)
    found = activation_quantisation.fake_quantise(values, bits)
    expected = activation_quantisation.reference.fake_quantise(values, bits)
    assert torch.equal(found, expected)


def test_quantisation_keeps_nan_visible() -> None:
    values = torch.ones(1, 8, device=DEVICE)
    values[0, 3] = torch.nan
    bits = torch.tensor([8], device=DEVICE)
    assert activation_quantisation.fake_quantise(values, bits).isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_activations_equal_the_reference(dtype: torch.dtype, activation: str) -> None:
    gate_up = torch.randn(3, 140, generator=torch.Generator().manual_seed(4)).to(DEVICE, dtype)
    found = activated(gate_up, activation)
    assert (found.shape, found.dtype) == ((3, 70), dtype)
    # A prefill's rows go to torch, which rounds once more in between.
    close(found, activated(gate_up[None].float(), activation)[0], ROUNDED[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "width", "added", "normed"),
    [(1, 1, True, True), (3, 7, False, True), (2, 96, True, True), (2, 96, True, False)],
)
def test_what_enters_half_a_layer_equals_the_reference(
    dtype: torch.dtype,
    rows: int,
    width: int,
    added: bool,
    normed: bool,
    generator: torch.Generator,
) -> None:
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


def test_a_single_row_lists_its_channels_itself() -> None:
    weights = _weights(96, 176, torch.float32, "silu", biased=False)
    kept = torch.tensor([31], device=DEVICE)
    with recorded_launches() as launches:
        _mlp(torch.randn(1, 96, device=DEVICE), weights, MlpPlan(kept, inner_kept=kept))
    names = [launch.kernel.__name__ for launch in launches]
    assert names[0] == "enter_rows"
    assert "list_channels" not in names


def _new_tokens(rows: int, heads: int, size: int, generator: torch.Generator) -> NewTokens:
    """One token a row of a model with twice as many queries as KV heads, from anywhere."""
    angle = torch.randn(rows, size // 2, generator=generator).repeat(1, 2).to(DEVICE)
    made = torch.randn(rows, 4 * heads, size, generator=generator).to(DEVICE)
    return NewTokens(made, angle.cos(), angle.sin(), 0.125)


@pytest.mark.parametrize("dtype", DTYPES)
def test_writes_equal_the_reference(dtype: torch.dtype, generator: torch.Generator) -> None:
    """Rows of different lengths: queries are turned and scaled, keys turned, values as they are."""
    rows, heads, size = 3, 2, 24
    slots = torch.tensor([0, 5, 11], device=DEVICE)
    buffers = torch.randn(2, rows, heads, 12, size, generator=generator).to(DEVICE, dtype)
    expected = buffers.clone()
    new = _new_tokens(rows, heads, size, generator)
    query, key, value = kv_write.rotated(new.heads, heads, new.cosine, new.sine)
    writing.write_token(expected[0], key, slots)
    writing.write_token(expected[1], value, slots)
    found = kv_write.rotate_and_write(new, (buffers[0], buffers[1]), None, slots, 4)
    close(found, query * 0.125, 1e-6)
    close(buffers[0], expected[0], ROUNDED[dtype])
    assert torch.equal(buffers[1], expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_written_keys_join_their_octets_bit_for_bit(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    """One launch writes key, value and 4-bit key; the octets' other tokens stay as they are."""
    rows, heads, size = 4, 2, 24
    slots = torch.tensor([0, 7, 9, 19], device=DEVICE)
    keys, values = (torch.zeros(rows, heads, 20, size, dtype=dtype, device=DEVICE) for _ in "kv")
    codes = torch.randint(256, (rows, heads, 3, 3, 8, 4), generator=generator).to(torch.uint8)
    scales = torch.randn(rows, heads, 3, 2, 8, generator=generator).bfloat16()
    new = _new_tokens(rows, heads, size, generator)
    new.heads[2, 2 * heads] = 0.0  # no scale
    new.heads[3, 2 * heads] *= 1e4
    codes, scales = codes.to(DEVICE), scales.to(DEVICE)
    expected = codes.clone(), scales.clone()
    with recorded_launches() as written:
        kv_write.rotate_and_write(new, (keys, values), None, slots, 4, (codes, scales))
    assert [launch.kernel.__name__ for launch in written] == ["rotate_and_write_rows"]
    kv_write.rotate_and_write(new, (keys, values), None, slots, 4, (codes, scales))
    for row, slot in enumerate(slots.tolist()):
        padded = keys.new_zeros(heads, 8, size)
        padded[:, slot % 8] = keys[row, :, slot]
        for mine, made in zip(expected, encode_keys(padded), strict=True):
            mine[row, :, slot // 8, :, slot % 8] = made[:, 0, :, slot % 8]
    assert torch.equal(codes, expected[0])
    assert torch.equal(scales, expected[1])
    again = (torch.zeros_like(codes), torch.zeros_like(scales))
    written_keys = keys[torch.arange(rows, device=DEVICE), :, slots]
    writing.extend_codes(*again, written_keys, slots)
    for row, slot in enumerate(slots.tolist()):
        for mine, right in zip(again, expected, strict=True):
            assert torch.equal(
                mine[row, :, slot // 8, :, slot % 8], right[row, :, slot // 8, :, slot % 8]
            )


@pytest.mark.skipif(DEVICE == "cuda", reason="layouts would change on the way to a GPU")
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("slots", torch.zeros(2, dtype=torch.int32)),
        ("slots", torch.zeros(3, dtype=torch.int64)),
        ("heads", torch.zeros(2, 4, 8)),
        ("cosine", torch.zeros(2, 8)),
        ("sine", torch.zeros(2, 16, dtype=torch.float16)),
        ("values", torch.zeros(2, 1, 8, 16, dtype=torch.bfloat16)),
        ("values", torch.zeros(2, 1, 8, 16, device="meta")),
        ("codes", torch.zeros(2, 1, 1, 2, 8, 4)),
        ("codes", torch.zeros(2, 1, 2, 2, 8, 4, dtype=torch.uint8)),
        ("scales", torch.zeros(2, 1, 1, 2, 8, dtype=torch.bfloat16, device="meta")),
    ],
)
def test_wrong_writes_are_named(name: str, wrong: Tensor) -> None:
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
        kv_write.rotate_and_write(new, (keys, values), None, slots, 4, (codes, scales))
