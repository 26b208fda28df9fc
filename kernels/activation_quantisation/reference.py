"""Symmetric per-token fake quantisation, in plain PyTorch: the definition.

``q_max = 2^(b−1) − 1``, ``scale = max|y| / q_max`` (at least 1e-8),
``y ← round_half_even(y / scale) · scale`` as in SOL (arXiv:2605.10875); 16 bits
leave the row untouched.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.quantisation_levels import SCALE_FLOOR, UNTOUCHED_BITS


def fake_quantise(activations: Tensor, bit_widths: Tensor) -> Tensor:
    """Round each row to ``2^b − 1`` symmetric levels.

    Args:
        activations: [R, C], any float dtype; the arithmetic is fp32.
        bit_widths: [R] int64 in [2, 16].
    Returns: [R, C] in the input's dtype; rows at 16 bits are bit-identical.
    """
    values = activations.float()
    q_max = torch.pow(2.0, bit_widths.float() - 1)[:, None] - 1
    scale = (values.abs().amax(-1, keepdim=True) / q_max).clamp(min=SCALE_FLOOR)
    rounded = (torch.round(values / scale) * scale).to(activations.dtype)
    return torch.where((bit_widths < UNTOUCHED_BITS)[:, None], rounded, activations)
