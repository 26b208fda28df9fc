"""Integer products on a CPU and in Triton against their reference, and how weights are rounded."""

from __future__ import annotations

import pytest
import torch

from kernels.activation_quantisation.reference import fake_quantise
from kernels.gated_mlp import triton_dispatch as splitting
from kernels.gpu.triton_support import KernelInputError
from kernels.integer_linear import (
    IntegerMatrix,
    integer_linear,
    quantise_matrix,
    reference,
    relative_error,
)
from kernels.integer_linear.triton_dispatch import check_integer_linear
from tests.kernels.triton_cases import DEVICE, DTYPES, triton_here

CASES = [(1, 96, 176, False), (3, 41, 7, True), (18, 200, 33, True), (65, 40, 72, False)]


def _case(
    rows: int, channels: int, width: int, dtype: torch.dtype, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, IntegerMatrix]:
    activations = torch.randn(rows, channels, generator=generator)
    activations[:, ::3] = 0  # as pruning leaves them
    bits = torch.randint(2, 9, (rows,), generator=generator)
    weight = torch.randn(channels, width, generator=generator).to(dtype)
    return activations, bits, quantise_matrix(weight)


def _on_device(matrix: IntegerMatrix) -> IntegerMatrix:
    """As it lies where Triton reads it."""
    return IntegerMatrix(matrix.numbers.contiguous().to(DEVICE), matrix.scales.to(DEVICE))


def _with_triton(
    activations: torch.Tensor, bits: torch.Tensor, matrix: IntegerMatrix
) -> torch.Tensor:
    with triton_here():
        found = integer_linear(activations.to(DEVICE), bits.to(DEVICE), _on_device(matrix))
    return found.cpu()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "channels", "width", "splits"), CASES)
def test_every_implementation_equals_the_reference_bit_for_bit(
    dtype: torch.dtype,
    rows: int,
    channels: int,
    width: int,
    splits: bool,
    monkeypatch: pytest.MonkeyPatch,
    generator: torch.Generator,
) -> None:
    monkeypatch.setattr(splitting, "TARGET_PROGRAMS", 6 if splits else 1)
    monkeypatch.setattr(splitting, "CHANNELS_PER_SPLIT", 20)
    activations, bits, matrix = _case(rows, channels, width, dtype, generator)
    expected = reference.integer_linear(activations, bits, matrix)
    assert torch.equal(integer_linear(activations, bits, matrix), expected)
    assert torch.equal(_with_triton(activations, bits, matrix), expected)


def test_the_product_is_that_of_the_rounded_activations_and_weights(
    generator: torch.Generator,
) -> None:
    activations, bits, matrix = _case(5, 64, 24, torch.float32, generator)
    rounded = fake_quantise(activations, bits).double()
    expected = rounded @ (matrix.numbers.double() * matrix.scales.double())
    found = integer_linear(activations, bits, matrix)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_sums_that_fp32_cannot_hold_are_exact() -> None:
    """1,536 products of 127 · 127 and one of 1 exceed 2^24, where fp32 counts in twos."""
    activations = torch.full((1, 1537), 127.0)
    activations[0, 0] = 1.0
    weight = torch.full((1537, 1), 127.0)
    weight[0, 0] = 1.0
    matrix = quantise_matrix(weight)
    bits = torch.tensor([8])
    expected = float(torch.tensor(1536 * 127 * 127 + 1.0, dtype=torch.float64).float())
    assert integer_linear(activations, bits, matrix).item() == expected
    assert _with_triton(activations, bits, matrix).item() == expected


def test_not_a_number_in_a_row_stays_in_that_row() -> None:
    activations = torch.ones(2, 16)
    activations[0, 3] = torch.nan
    bits, matrix = torch.tensor([8, 8]), quantise_matrix(torch.eye(16))
    for found in (
        integer_linear(activations, bits, matrix),
        _with_triton(activations, bits, matrix),
    ):
        assert found[0].isnan().all()
        torch.testing.assert_close(found[1], torch.ones(16))


def test_weights_have_one_scale_per_out_channel() -> None:
    weight = torch.tensor([[1.0, -200.0, 0.0], [0.5, 50.0, 0.0]])
    matrix = quantise_matrix(weight)
    assert matrix.numbers.tolist() == [[127, -127, 0], [64, 32, 0]]
    assert matrix.scales.tolist() == pytest.approx([1 / 127, 200 / 127, 1e-8])
    lost = torch.tensor([64 / 127 - 0.5, 32 * 200 / 127 - 50]).norm() / weight.norm()
    assert relative_error(weight, matrix) == pytest.approx(lost.item(), rel=1e-4)
    assert relative_error(torch.zeros(2, 2), quantise_matrix(torch.zeros(2, 2))) == 0


def test_random_weights_lose_less_than_a_hundredth(generator: torch.Generator) -> None:
    weight = torch.randn(256, 64, generator=generator)
    assert 0.002 < relative_error(weight, quantise_matrix(weight)) < 0.01


WRONG = [
    ("activations", torch.zeros(2, 16, dtype=torch.float64)),
    ("activations", torch.zeros(2, 2, 16)),
    ("activations", torch.zeros(1, 16385)),
    ("bit_widths", torch.full((3,), 8)),
    ("bit_widths", torch.full((2,), 8, dtype=torch.int32)),
    ("bit_widths", torch.full((2,), 8, device="meta")),
    ("numbers", torch.zeros(15, 8, dtype=torch.int8)),
    ("numbers", torch.zeros(16, 8)),
    ("numbers", torch.zeros(8, 16, dtype=torch.int8).t()),
    ("scales", torch.zeros(7)),
    ("scales", torch.zeros(8, dtype=torch.float16)),
    ("scales", torch.zeros(8, device="meta")),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_wrong_arguments_are_named(name: str, wrong: torch.Tensor) -> None:
    given = {
        "activations": torch.zeros(2, 16),
        "bit_widths": torch.full((2,), 8),
        "numbers": torch.zeros(16, 8, dtype=torch.int8),
        "scales": torch.zeros(8),
        name: wrong,
    }
    matrix = IntegerMatrix(given["numbers"], given["scales"])
    with pytest.raises(KernelInputError, match=f"^{name} must be"):
        check_integer_linear(given["activations"], given["bit_widths"], matrix)


def test_the_operation_describes_itself_to_the_compiler(generator: torch.Generator) -> None:
    activations, bits, matrix = _case(2, 16, 8, torch.float32, generator)
    with triton_here():
        torch.library.opcheck(
            torch.ops.sol.integer_linear,
            (
                activations.to(DEVICE),
                bits.to(DEVICE),
                matrix.numbers.contiguous().to(DEVICE),
                matrix.scales.to(DEVICE),
            ),
            test_utils=("test_schema", "test_faketensor"),
        )
