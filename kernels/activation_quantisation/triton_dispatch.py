"""Fake quantisation on Triton, as a custom operation of torch."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gpu.row_operations import check_counts, check_rows, run_rows


@torch.library.custom_op("sol::fake_quantise", mutates_args=())
def quantise_rows(activations: Tensor, bit_widths: Tensor) -> Tensor:
    """As ``reference.fake_quantise``."""
    from kernels.activation_quantisation.triton_kernel import fake_quantise_rows

    check_rows(activations)
    check_counts("bit_widths", bit_widths, activations)
    return run_rows(fake_quantise_rows, activations, "activations", {"bit_widths": bit_widths})


@quantise_rows.register_fake
def _quantise_shape(activations: Tensor, bit_widths: Tensor) -> Tensor:
    return activations.new_empty(activations.shape)
