"""Logits in two passes: a preview of all from 4-bit weights, then the likely ones exactly.

Most of a vocabulary cannot be the next token, and for those a coarse logit will do. SVD-softmax
(Shim et al., NeurIPS 2017) previews them by the leading singular vectors of the head; here the
preview reads the whole head at 4 bits, and what that rounds away is kept exact along the few
directions in which final hidden states are large.

With weights W [V, C], their 4-bit values Q and D directions U [C, D], the preview of a state h is
``Q h + R (Uᵀ h)``, where R are the 4-bit values of ``(W − Q) U``: one product of [Q, R] with
``preview_input``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.activation_quantisation.reference import fake_quantise
from kernels.quantised_weights import BLOCK, BYTES_4, GgufBlocks, pack_blocks, unpack_blocks

PREVIEW_BITS = 4
_OUTPUTS = 64  # half a tile of 4 bits
_ROWS = 1024  # outputs rounded at a time: what is computed meanwhile stays in the caches
MARGIN = 9.0  # nats below the best preview: less than 1/8,000 as probable
RESCORED = 960  # outputs within it, about the mean on text; for bytes before they are counted
MOST_RESCORED = 8192  # of more (0.7 % of a novel's steps), reading all of them is faster

# Of the first pass's input, so that its products can be of integers. A step per block of 32 costs
# 5 % more KL than none, one for all channels 40 %: a few states are ten times as large as the rest.
STATE_BITS = 8


class HeadPreview(NamedTuple):
    """Both forms of the head, as the two passes read them."""

    blocks: GgufBlocks  # [V, C + D], of 4 bits
    packed: Tensor  # the same in tiles, uint8 (``kernels/quantised_weights``)
    directions: Tensor  # [C, D] float32, orthonormal columns
    exact: Tensor  # [V, bytes] uint8, the head's own blocks of 8 bits, an output after another


def preview_bytes(head: GgufBlocks, num_directions: int) -> tuple[float, float] | None:
    """Bytes that the preview reads, and the second pass for an output.

    Returns: None for a head that has no preview: not of 8-bit blocks, or in no whole tiles.
    """
    outputs, num_blocks, block_bytes = head.data.shape
    if head.kind != "Q8_0" or outputs % _OUTPUTS:
        return None
    width = num_blocks * BLOCK
    first = outputs * (width + num_directions) * BYTES_4 // BLOCK + 4 * width * num_directions
    return float(first), float(num_blocks * block_bytes)


def make_preview(head: GgufBlocks, directions: Tensor) -> HeadPreview:
    """Preview of an 8-bit head; its ``preview_bytes`` must not be None.

    Args:
        directions: [C, D] float32, orthonormal columns, D a multiple of 32.
    """
    pieces = []
    for rows in head.data.split(_ROWS):
        weights = unpack_blocks(GgufBlocks(head.kind, rows))
        coarse = _four_bits(weights)
        lost = weights.sub_(unpack_blocks(coarse)) @ directions
        pieces.append(torch.cat((coarse.data, _four_bits(lost).data), 1))
    blocks = GgufBlocks("Q4_1", torch.cat(pieces))
    packed = pack_blocks(blocks)
    assert packed is not None, f"{len(blocks.data)} outputs"
    exact = head.data.flatten(1).contiguous()
    return HeadPreview(blocks, packed, directions.contiguous(), exact)


def _four_bits(weights: Tensor) -> GgufBlocks:
    """[out, in] float32 rounded to blocks of the kind Q4_1."""
    cut = weights.unflatten(1, (-1, BLOCK))
    least, most = cut.aminmax(dim=-1, keepdim=True)
    minima, scales = least.half(), ((most - least) / 15).half()
    steps = scales.float().clamp_min_(torch.finfo(torch.float16).tiny)
    codes = ((cut - minima.float()) / steps).round_().clamp_(0, 15).to(torch.uint8)
    packed = codes[..., : BLOCK // 2] | (codes[..., BLOCK // 2 :] << 4)
    heads = torch.cat((scales, minima), -1).view(torch.uint8)
    return GgufBlocks("Q4_1", torch.cat((heads, packed), -1))


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

    All are exact where more than ``MOST_RESCORED`` come near.

    Args:
        preview, exact: [R, V] float32.
    """
    likely = preview >= preview.amax(-1, keepdim=True) - MARGIN
    many = likely.sum(-1, keepdim=True) > MOST_RESCORED
    return exact.where(likely | many, preview)
