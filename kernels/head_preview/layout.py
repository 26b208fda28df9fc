"""The head's second form: 4-bit blocks of its weights and of what they lose where states are large.

With weights W [V, C], their 4-bit values Q and D directions U [C, D], the preview of a state h is
``Q h + R (Uᵀ h)``, where R are the 4-bit values of ``(W − Q) U``: one product of [Q, R] with
``preview_input``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.head_preview.reference import RESCORED
from kernels.quantised_weights.layout import BLOCK, BYTES_4, GgufBlocks, pack_blocks, unpack_blocks

PREVIEW_BITS = 4
_OUTPUTS = 64  # half a tile of 4 bits
_ROWS = 1024  # outputs rounded at a time: what is computed meanwhile stays in the caches


class HeadPreview(NamedTuple):
    """Both forms of the head, as the two passes read them."""

    blocks: GgufBlocks  # [V, C + D], of 4 bits
    packed: Tensor  # the same in tiles, uint8 (``quantised_weights/layout.py``)
    directions: Tensor  # [C, D] float32, orthonormal columns
    exact: Tensor  # [V, bytes] uint8, the head's own blocks of 8 bits, an output after another


def preview_bytes(head: GgufBlocks, num_directions: int) -> float | None:
    """Bytes that both passes read, of the second as many as they are on a mean of text.

    Returns: None for a head that has no preview: not of 8-bit blocks, or in no whole tiles.
    """
    outputs, num_blocks, block_bytes = head.data.shape
    if head.kind != "Q8_0" or outputs % _OUTPUTS:
        return None
    width = num_blocks * BLOCK
    first = outputs * (width + num_directions) * BYTES_4 // BLOCK + 4 * width * num_directions
    return float(first + RESCORED * num_blocks * block_bytes)


def make_preview(head: GgufBlocks, directions: Tensor) -> HeadPreview:
    """The preview of a head of 8-bit blocks, its for which ``preview_bytes`` is a number.

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
    return GgufBlocks("Q4_1", torch.cat((_bytes(scales), _bytes(minima), packed), -1))


def _bytes(halves: Tensor) -> Tensor:
    return halves.contiguous().view(torch.uint8)
