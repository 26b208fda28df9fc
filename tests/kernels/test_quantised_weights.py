"""Quantised weights: unpacked as the file's own library does, and multiplied as they are."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cpu.team import Team
from kernels.decode_layer import few_row_kernel, multiplies_quantised
from kernels.quantised_weights import KINDS, GgufBlocks, pack_blocks, unpack_blocks
from tests.kernels.from_python import from_python

can_multiply = pytest.mark.skipif(
    few_row_kernel() is None or not multiplies_quantised(), reason="Numba cannot run here"
)


def make_blocks(kind, outputs, inputs, seed=0):
    """Random weights, quantised by the format's own library."""
    weights = np.random.default_rng(seed).standard_normal((outputs, inputs)).astype(np.float32)
    data = quants.quantize(weights, GGMLQuantizationType[kind])
    return GgufBlocks(kind, torch.from_numpy(data).view(outputs, inputs // 32, KINDS[kind][1]))


@pytest.mark.parametrize("kind", KINDS)
def test_unpacked_they_are_the_file_s_own_values(kind):
    blocks = make_blocks(kind, 24, 96)
    expected = quants.dequantize(blocks.data.flatten(1).numpy(), GGMLQuantizationType[kind])
    assert np.array_equal(unpack_blocks(blocks).numpy(), expected)


@can_multiply
@given(
    kind=st.sampled_from(sorted(KINDS)),
    sizes=st.tuples(st.integers(1, 7), st.integers(1, 6)),
    rows=st.integers(1, 4),
    zero_share=st.sampled_from([0.0, 0.4, 0.95, 1.0]),
    work=st.tuples(st.integers(1, 5), st.integers(1, 64)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_products_skip_dropped_channels_and_round_nothing(
    kind, sizes, rows, zero_share, work, seed
):
    from kernels.decode_layer.products import product_range

    product, (bits, _) = from_python(product_range), KINDS[kind]
    outputs, channels = 256 // bits * sizes[0], 32 * sizes[1]
    blocks = make_blocks(kind, outputs, channels, seed)
    packed = pack_blocks(blocks)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, channels, generator=generator)
    inputs[:, torch.rand(channels, generator=generator) < zero_share] = 0

    def found(tasks, ahead):
        result = torch.full((rows, outputs), torch.nan)
        for task in range(tasks):
            member = Team(0, task, tasks, ahead)
            product(inputs.numpy(), packed.numpy(), False, result.numpy(), member)
        return result

    expected = inputs.double() @ unpack_blocks(blocks).double().t()
    torch.testing.assert_close(found(*work).double(), expected, atol=5e-5, rtol=1e-5)
    assert torch.equal(found(*work), found(1, 4))


@can_multiply
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    rows=st.integers(1, 3),
    zero_share=st.sampled_from([0.0, 0.4, 0.95, 1.0]),
    bits=st.lists(st.sampled_from([2, 5, 8, 16]), min_size=3, max_size=3),
    by_block=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_rounded_rows_are_multiplied_in_integers(sizes, rows, zero_share, bits, by_block, seed):
    """Each block's sum is exact; a row's result does not depend on the rows beside it."""
    from kernels.decode_layer.products import add_columns, list_inputs
    from kernels.quantised_weights.vectors import MOST_BITS

    listed, add = from_python(list_inputs), from_python(add_columns)
    outputs, channels = 64 * sizes[0], 32 * sizes[1]
    blocks = make_blocks("Q4_1", outputs, channels, seed)
    packed = pack_blocks(blocks)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, channels, generator=generator)
    inputs[:, torch.rand(channels, generator=generator) < zero_share] = 0
    levels = torch.tensor([2 ** (count - 1) - 1 for count in bits[:rows]])[:, None]
    cut = inputs.view(rows, -1, 32 if by_block else channels)
    steps = (cut.abs().amax(2) / levels).clamp_min(1e-8)
    rounded = ((cut / steps[..., None]).round() * steps[..., None]).view(rows, channels)
    steps[torch.tensor(bits[:rows]) > MOST_BITS] = 0

    def product(some):
        result = torch.full((len(rounded[some]), outputs), torch.nan)
        weight = packed.numpy()
        used = listed(rounded[some].numpy(), steps[some].numpy(), weight)
        add(used, weight, 0, result.numpy(), 4)
        return result

    together = product(slice(rows))
    expected = rounded.double() @ unpack_blocks(blocks).double().t()
    torch.testing.assert_close(together.double(), expected, atol=5e-5, rtol=1e-5)
    for row in range(rows):
        assert torch.equal(product(slice(row, row + 1))[0], together[row])


@can_multiply
@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
@pytest.mark.parametrize("block", [0, 32])
def test_a_row_that_is_not_finite_stays_visible_beside_others(block, odd):
    """Integers cannot hold it: its blocks are multiplied in floats, other rows' as if alone."""
    from kernels.decode_layer.products import add_columns, list_inputs, round_rows

    rounding, listed, add = map(from_python, (round_rows, list_inputs, add_columns))
    weight = pack_blocks(make_blocks("Q4_1", 64, 96)).numpy()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 96, generator=generator)
    inputs[0, 40] = odd

    def product(rows):
        rows, result = rows.clone().numpy(), torch.full((len(rows), 64), torch.nan)
        steps = rounding(rows, np.full(len(rows), 8), block, weight)
        add(listed(rows, steps, weight), weight, 0, result.numpy(), 4)
        return result, steps

    result, steps = product(inputs)
    assert result[0].isnan().all()
    assert torch.equal(result[1], product(inputs[1:])[0][0])
    assert (steps == 0).sum() == 1, "of the row, or of its block"


@can_multiply
def test_a_dropped_channel_is_not_read():
    """Its numbers lie in lines of their own: whatever stands there changes no bit."""
    from kernels.decode_layer.products import product_range

    product, packed = from_python(product_range), pack_blocks(make_blocks("Q4_1", 128, 32))
    inputs, results = torch.randn(1, 32), torch.empty(2, 1, 128)
    inputs[0, 5] = 0
    for result in results:
        product(inputs.numpy(), packed.numpy(), False, result.numpy(), Team(0, 0, 1, 4))
        packed.view(-1)[512 + 5 * 64 : 512 + 6 * 64] = 255
    assert torch.equal(*results)


def test_what_does_not_fit_is_not_packed():
    assert pack_blocks(make_blocks("Q4_1", 96, 32)) is None
    assert pack_blocks(make_blocks("Q8_0", 48, 32)) is None
    beyond = make_blocks("Q4_0", 64, 32)
    beyond.data[3, 0, :2] = torch.tensor([65000.0], dtype=torch.float16).view(torch.uint8)
    assert pack_blocks(beyond) is None  # 8 times the scale is no float16
