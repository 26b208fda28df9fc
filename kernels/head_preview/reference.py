"""The input of the first pass, and the outputs that the second one computes, by PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.activation_quantisation.reference import fake_quantise
from kernels.quantised_weights.layout import BLOCK

MARGIN = 9.0  # nats below the best preview: less than 1/8,000 as probable
RESCORED = 960  # outputs within it, about the mean on text; for counting bytes

# Of the first pass's input, so that its products can be of integers. A step per block of 32 costs
# 5 % more KL than none, one for all channels 40 %: a few states are ten times as large as the rest.
STATE_BITS = 8


def preview_input(hidden: Tensor, directions: Tensor) -> Tensor:
    """States and their parts along the directions, each block of 32 rounded to ``STATE_BITS``.

    Args:
        hidden: [R, C] float32, C a multiple of 32.
        directions: [C, D] float32, D a multiple of 32.
    Returns: [R, C + D] float32.
    """
    extended = torch.cat((hidden, hidden @ directions), 1)
    bit_widths = torch.full((len(hidden),), STATE_BITS, device=hidden.device)
    return fake_quantise(extended, bit_widths, BLOCK)


def previewed_logits(preview: Tensor, exact: Tensor) -> Tensor:
    """Exact logits where the preview comes near its best one, and the preview elsewhere.

    Args:
        preview, exact: [R, V] float32.
    """
    likely = preview >= preview.amax(-1, keepdim=True) - MARGIN
    return exact.where(likely, preview)
