"""Products of quantised activations with int8 weights, in plain PyTorch: the definition.

Activations are rounded per token as ``activation_quantisation`` rounds them, but stay whole
numbers; weights are rounded once, symmetrically, with one scale per out channel. Sums are
exact integers, and one multiplication per output scales them back. As in W8A8 inference
(ZeroQuant, arXiv:2206.01861), with the activation's bits chosen per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.quantisation_levels import SCALE_FLOOR

MAX_INTEGER_BITS = 8  # what an int8 holds
LARGEST = 2 ** (MAX_INTEGER_BITS - 1) - 1


@dataclass(frozen=True, slots=True)
class IntegerMatrix:
    """A weight matrix in whole numbers: ``weight ≈ numbers · scales``.

    Attributes:
        numbers: [in, out] int8, −127 to 127.
        scales: [out] fp32, above 0.
    """

    numbers: Tensor
    scales: Tensor


def quantise_matrix(weight: Tensor) -> IntegerMatrix:
    """Round [in, out], any float dtype, to int8 with one scale per out channel.

    The numbers lie as products read them: an in channel's in one line on CUDA, where
    pruned ones are skipped, an out channel's in one line elsewhere.
    """
    values = weight.float()
    scales = (values.abs().amax(0) / LARGEST).clamp(min=SCALE_FLOOR)
    numbers = torch.round(values / scales).to(torch.int8)
    numbers = numbers.contiguous() if weight.is_cuda else numbers.t().contiguous().t()
    return IntegerMatrix(numbers, scales)


def relative_error(weight: Tensor, matrix: IntegerMatrix) -> float:
    """‖weight − numbers · scales‖ / ‖weight‖, Frobenius; 0 for a matrix of zeros."""
    values = weight.float()
    lost = torch.linalg.vector_norm(values - matrix.numbers.float() * matrix.scales)
    return float(lost / torch.linalg.vector_norm(values).clamp(min=SCALE_FLOOR))


def quantise_tokens(activations: Tensor, bit_widths: Tensor) -> tuple[Tensor, Tensor]:
    """``fake_quantise`` of each row before it is scaled back.

    Args:
        activations: [R, C], any float dtype; the arithmetic is fp32.
        bit_widths: [R] int64 in [2, 8].
    Returns: numbers [R, C] int8 and scales [R] fp32. A row with a NaN has a NaN scale.
    """
    values = activations.float()
    levels = torch.pow(2.0, bit_widths.float() - 1) - 1
    scales = (values.abs().amax(-1) / levels).clamp(min=SCALE_FLOOR)
    return torch.round(values / scales[:, None]).to(torch.int8), scales


def integer_linear(activations: Tensor, bit_widths: Tensor, matrix: IntegerMatrix) -> Tensor:
    """Quantised rows times an int8 matrix.

    Args:
        activations: [R, in], any float dtype.
        bit_widths: [R] int64 in [2, 8].
    Returns: [R, out] fp32.
    """
    numbers, scales = quantise_tokens(activations, bit_widths)
    sums = numbers.double() @ matrix.numbers.double()  # whole numbers below 2^53: exact
    return sums.float() * (scales[:, None] * matrix.scales)
