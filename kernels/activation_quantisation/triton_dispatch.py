"""Fake quantisation on Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gpu.triton_support import check_operands, run_rows


def quantise_rows(activations: Tensor, bit_widths: Tensor) -> Tensor:
    """As ``reference.fake_quantise``, of activations that ``fits_rows``."""
    from kernels.activation_quantisation.triton_kernel import fake_quantise_rows

    check_operands({"bit_widths": (bit_widths, (activations.shape[0],), torch.int64)}, activations)
    return run_rows(fake_quantise_rows, activations, "activations", {"bit_widths": bit_widths})
