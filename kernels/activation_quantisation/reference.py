"""Symmetric fake quantisation per token or by blocks, in plain PyTorch: the definition.

``q_max = 2^(b−1) − 1``, ``scale = max|y| / q_max`` (at least 1e-8),
``y ← round_half_even(y / scale) · scale`` as in SOL (arXiv:2605.10875); 16 bits
leave the row untouched. With blocks, ``max|y|`` and the scale are those of each block of channels,
as in ggml's Q8_0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.quantisation_levels import SCALE_FLOOR, UNTOUCHED_BITS


def fake_quantise(activations: Tensor, bit_widths: Tensor, block: int = 0) -> Tensor:
    """Round each row to ``2^b − 1`` symmetric levels.

    Args:
        activations: [R, C], any float dtype; the arithmetic is fp32.
        bit_widths: [R] int64 in [2, 16].
        block: channels that share a scale, from channel 0 on, the last ones perhaps fewer; 0: all.
    Returns: [R, C] in the input's dtype; rows at 16 bits are bit-identical.
    """
    width = activations.shape[1]
    block = block or width
    values = F.pad(activations.float(), (0, -width % block)).unflatten(1, (-1, block))
    q_max = torch.pow(2.0, bit_widths.float() - 1)[:, None, None] - 1
    scale = (values.abs().amax(-1, keepdim=True) / q_max).clamp(min=SCALE_FLOOR)
    rounded = (torch.round(values / scale) * scale).flatten(1)[:, :width].to(activations.dtype)
    return torch.where((bit_widths < UNTOUCHED_BITS)[:, None], rounded, activations)
