"""Quantised activations times int8 weights, on integer units where the device has them."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.integer_linear import reference
from kernels.integer_linear.reference import (
    MAX_INTEGER_BITS,
    IntegerMatrix,
    quantise_matrix,
    quantise_tokens,
    relative_error,
)
from kernels.integer_linear.triton_dispatch import multiply_integers, triton_fits

__all__ = [
    "MAX_INTEGER_BITS",
    "IntegerMatrix",
    "integer_linear",
    "quantise_matrix",
    "relative_error",
]


def integer_linear(activations: Tensor, bit_widths: Tensor, matrix: IntegerMatrix) -> Tensor:
    """As ``reference.integer_linear``, bit for bit; CUDA goes to Triton, a CPU to torch's int8."""
    if triton_fits(activations, bit_widths, matrix):
        product: Tensor = multiply_integers(activations, bit_widths, matrix.numbers, matrix.scales)
        return product
    if activations.device.type != "cpu":
        return reference.integer_linear(activations, bit_widths, matrix)
    numbers, scales = quantise_tokens(activations, bit_widths)
    sums = torch._int_mm(numbers, matrix.numbers)
    return sums.float() * (scales[:, None] * matrix.scales)
