"""MLP, pruning, quantisation, norm and cache writes in Triton against their references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels import activation_quantisation, channel_pruning, kv_write, rms_norm
from kernels.channel_pruning import keep_heaviest_channels, keep_largest_channels
from kernels.gated_mlp import MlpPlan, MlpWeights, fused_gated_mlp, reference, triton_dispatch
from kernels.gated_mlp.triton_dispatch import multiply_with_triton
from kernels.gpu.triton_support import KernelInputError, recorded_launches
from kernels.key_codes import encode_keys
from kernels.kv_write import reference as writing
from kernels.page_attention import page_bounds
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
    found = fused_gated_mlp(hidden, weights, plan)
    assert found is not None
    assert found.dtype == dtype
    close(found, reference.gated_mlp(hidden, weights, plan), ROUNDED[dtype])


def test_weights_of_pruned_channels_are_not_read() -> None:
    """Their rows hold NaN; a product that touched them would show it."""
    weights = _weights(32, 16, torch.float32, "silu", biased=False)
    hidden = torch.arange(1.0, 33.0, device=DEVICE)[None]
    plan = MlpPlan(torch.tensor([8], device=DEVICE))
    expected = multiply_with_triton(hidden, weights, plan)
    weights.gate_up[:24] = torch.nan
    assert torch.equal(multiply_with_triton(hidden, weights, plan), expected)
    weights.gate_up[24] = torch.nan
    assert multiply_with_triton(hidden, weights, plan).isnan().all()


def test_rows_of_down_that_no_row_keeps_are_not_read() -> None:
    weights = _weights(32, 48, torch.float32, "silu", biased=False)
    hidden = torch.randn(2, 32, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    channels = torch.tensor([20, 32], device=DEVICE)
    plan = MlpPlan(channels, inner_kept=torch.tensor([5, 11], device=DEVICE))
    expected = multiply_with_triton(hidden, weights, plan)
    gate_up = (keep_largest_channels(hidden, channels) @ weights.gate_up).chunk(2, -1)
    inner = torch.nn.functional.silu(gate_up[0]) * gate_up[1]
    assert weights.down_norms is not None
    assert plan.inner_kept is not None
    read = keep_heaviest_channels(inner, weights.down_norms, plan.inner_kept).any(0)
    assert 11 <= read.sum() <= 16
    weights.down[~read] = torch.nan
    assert torch.equal(multiply_with_triton(hidden, weights, plan), expected)
    weights.down[int(read.nonzero()[-1])] = torch.nan
    assert multiply_with_triton(hidden, weights, plan).isnan().any()


def test_equal_weights_go_to_the_lowest_inner_channels() -> None:
    """As many as asked for, though more weigh the same."""
    weights = _weights(8, 1100, torch.float32, "silu", biased=False)
    weights.gate_up[:] = 0.25
    assert weights.down_norms is not None
    weights.down_norms[:] = 1.0
    hidden = torch.ones(3, 8, device=DEVICE)
    kept = torch.tensor([1, 700, 1100], device=DEVICE)
    plan = MlpPlan(torch.tensor([8, 8, 8], device=DEVICE), inner_kept=kept)
    found = multiply_with_triton(hidden, weights, plan)
    activation = torch.nn.functional.silu(torch.tensor(2.0)) * 2
    sums = torch.stack([weights.down[: int(n)].sum(0) for n in kept])
    close(found, activation.to(DEVICE) * sums, 1e-4)


def test_dense_rows_are_left_to_torch() -> None:
    weights = _weights(16, 16, torch.float32, "silu", biased=False)
    assert fused_gated_mlp(torch.randn(1, 16, device=DEVICE), weights, MlpPlan()) is None


def test_what_only_the_reference_takes_is_left_and_wrong_arguments_are_named() -> None:
    weights = _weights(16, 16, torch.float32, "silu", biased=False)
    plan = MlpPlan(torch.tensor([3], device=DEVICE))
    hidden = torch.randn(1, 16, device=DEVICE)
    transposed = MlpWeights(weights.gate_up, weights.down.t().contiguous().t())
    assert fused_gated_mlp(hidden, transposed, plan) is None
    with pytest.raises(KernelInputError, match="down must be"):
        fused_gated_mlp(hidden, MlpWeights(weights.gate_up, weights.gate_up), plan)
    with pytest.raises(KernelInputError, match="channels_kept must be"):
        fused_gated_mlp(hidden, weights, MlpPlan(torch.tensor([3, 3], device=DEVICE)))
    counts, norms = torch.tensor([3], device=DEVICE), torch.ones(16, device=DEVICE)
    both = MlpPlan(counts, inner_kept=counts)
    for wrong in (None, norms.double(), norms[:3]):
        with pytest.raises(KernelInputError, match="down_norms must be"):
            fused_gated_mlp(hidden, replace(weights, down_norms=wrong), both)
    with pytest.raises(KernelInputError, match="inner_kept must be"):
        fused_gated_mlp(hidden, weights, MlpPlan(counts, inner_kept=counts.int()))
    with pytest.raises(KernelInputError, match="gate_up must be on"):
        fused_gated_mlp(hidden, MlpWeights(weights.gate_up.to("meta"), weights.down), plan)


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


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 3, 96)])
def test_norm_equals_the_reference(shape: tuple[int, ...], generator: torch.Generator) -> None:
    hidden = (torch.randn(*shape, generator=generator) * 30).to(DEVICE)
    weight = torch.randn(shape[-1], generator=generator).to(DEVICE)
    hidden[0] = 0.0
    found = rms_norm.rms_norm(hidden, weight, 1e-5)
    close(found, rms_norm.reference.rms_norm(hidden, weight, 1e-5), 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_writes_and_bounds_equal_the_reference(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Rows of different lengths; new keys are strided views, as the decoder makes them."""
    rows, heads, size, page_size = 3, 2, 24, 4
    slots = torch.tensor([0, 5, 11])
    keys = torch.randn(rows, heads, 12, size, generator=generator).to(dtype)
    values = torch.randn(rows, heads, 12, size, generator=generator).to(dtype)
    valid = torch.arange(12)[None] < slots[:, None]
    low, high = (bound.contiguous() for bound in page_bounds(keys, valid, page_size))
    new = torch.randn(rows, 3 * heads, size, generator=generator)
    pair = (new[:, :heads], new[:, heads : 2 * heads])
    expected = [tensor.clone() for tensor in (keys, values, low, high)]
    writing.write_token(expected[0], pair[0], slots)
    writing.write_token(expected[1], pair[1], slots)
    writing.extend_bounds(expected[2], expected[3], expected[0], slots, page_size)
    found = [tensor.to(DEVICE) for tensor in (keys, values, low, high)]
    new = new.to(DEVICE)
    pair = (new[:, :heads], new[:, heads : 2 * heads])
    kv_write.write_tokens(
        pair, (found[0], found[1]), (found[2], found[3]), slots.to(DEVICE), page_size
    )
    for mine, right in zip(found, expected, strict=True):
        assert torch.equal(mine.cpu(), right)
    with pytest.raises(KernelInputError, match="new values must be"):
        kv_write.write_tokens(
            (pair[0], new), (found[0], found[1]), None, slots.to(DEVICE), page_size
        )


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
    new = torch.randn(rows, 3 * heads, size, generator=generator)
    new[2, 0] = 0.25  # no scale
    new[3, 0] *= 1e4
    codes, scales, new = codes.to(DEVICE), scales.to(DEVICE), new.to(DEVICE)
    expected = codes.clone(), scales.clone()
    pair = (new[:, :heads], new[:, heads : 2 * heads])
    with recorded_launches() as written:
        kv_write.write_tokens(pair, (keys, values), None, slots, 4, (codes, scales))
    assert [launch.kernel.__name__ for launch in written] == ["write_rows"]
    kv_write.write_tokens(pair, (keys, values), None, slots, 4, (codes, scales))
    for row, slot in enumerate(slots.tolist()):
        assert torch.equal(keys[row, :, slot], pair[0][row].to(dtype))
        padded = keys.new_zeros(heads, 8, size)
        padded[:, slot % 8] = keys[row, :, slot]
        for mine, made in zip(expected, encode_keys(padded), strict=True):
            mine[row, :, slot // 8, :, slot % 8] = made[:, 0, :, slot % 8]
    assert torch.equal(codes, expected[0])
    assert torch.equal(scales, expected[1])
    again = (torch.zeros_like(codes), torch.zeros_like(scales))
    writing.extend_codes(*again, pair[0].to(dtype), slots)
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
        ("slots", torch.zeros(4, dtype=torch.int64)[::2]),
        ("new keys", torch.zeros(2, 1, 8)),
        ("new values", torch.zeros(2, 1, 16, dtype=torch.float16)),
        ("keys", torch.zeros(2, 1, 16, 8).mT),
        ("values", torch.zeros(2, 1, 8, 16, dtype=torch.bfloat16)),
        ("page_min", torch.zeros(2, 1, 2, 16, device="meta")),
        ("page_max", torch.zeros(2, 1, 16, 2).mT),
        ("page_size", torch.tensor(3)),
        ("codes", torch.zeros(2, 1, 1, 2, 8, 4)),
        ("codes", torch.zeros(2, 1, 2, 2, 8, 4, dtype=torch.uint8)),
        ("scales", torch.zeros(2, 1, 1, 8, 2, dtype=torch.bfloat16).mT),
        ("scales", torch.zeros(2, 1, 1, 2, 8, dtype=torch.bfloat16, device="meta")),
    ],
)
def test_wrong_writes_are_named(name: str, wrong: Tensor) -> None:
    given = {
        "new keys": torch.zeros(2, 1, 16),
        "new values": torch.zeros(2, 1, 16),
        "keys": torch.zeros(2, 1, 8, 16),
        "values": torch.zeros(2, 1, 8, 16),
        "page_min": torch.zeros(2, 1, 2, 16),
        "page_max": torch.zeros(2, 1, 2, 16),
        "codes": torch.zeros(2, 1, 1, 2, 8, 4, dtype=torch.uint8),
        "scales": torch.zeros(2, 1, 1, 2, 8, dtype=torch.bfloat16),
        "slots": torch.zeros(2, dtype=torch.int64),
        "page_size": torch.tensor(4),
    } | {name: wrong}
    keys, values, *rest, slots, page_size = given.values()
    buffers, bounds, codes = ((rest[i], rest[i + 1]) for i in (0, 2, 4))
    with pytest.raises(KernelInputError, match=f"^{name} must be"):
        kv_write.write_tokens((keys, values), buffers, bounds, slots, int(page_size), codes)
