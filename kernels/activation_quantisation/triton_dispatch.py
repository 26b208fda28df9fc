"""Fake quantisation on Triton."""

from __future__ import annotations

from torch import Tensor

from kernels.gpu.row_operations import check_counts, run_rows


def quantise_rows(activations: Tensor, bit_widths: Tensor) -> Tensor:
    """As ``reference.fake_quantise``, of activations that ``fits_rows``."""
    from kernels.activation_quantisation.triton_kernel import fake_quantise_rows

    check_counts("bit_widths", bit_widths, activations)
    return run_rows(fake_quantise_rows, activations, "activations", {"bit_widths": bit_widths})
