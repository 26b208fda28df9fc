"""Weights that a GGUF file holds in blocks of 4 or 8 bits, multiplied as they are.

No number is rounded: products are fp32 sums of the file's own values; ``cpu.py`` multiplies a few
rows with them. This file brings a file's blocks into tiles of lines, as they lie in memory.

Of every 32 input channels an output has a scale d and a minimum m, and the weight is d·q + m. A
tile is 128 outputs of 4 bits or 64 of 8: then a channel's numbers are one cache line, and a
dropped channel's line is not read. A last tile may be half as wide. Per tile and block lie the
outputs' scales, their minima (both float16) and 32 channels; word l of a channel's n words holds
the numbers of outputs l, n + l, 2 n + l and so on, from its lowest bits up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 32  # input channels
LINE_WORDS = 16  # of four bytes: a cache line
HEADER = 4  # bytes of a scale and a minimum, per output and block
BYTES_4, BYTES_8 = HEADER + BLOCK // 2, HEADER + BLOCK  # per output and block, of 4 and of 8 bits
# Bits of a number, and bytes of a block in the file.
KINDS = {"Q4_0": (4, 18), "Q4_1": (4, 20), "Q8_0": (8, 34)}


class GgufBlocks(NamedTuple):
    """A matrix as a GGUF file has it."""

    kind: str  # of ``KINDS``
    data: Tensor  # [out, in / 32, bytes] uint8

    @property
    def bits(self) -> int:
        return KINDS[self.kind][0]


def _parts(blocks: GgufBlocks) -> tuple[Tensor, Tensor, Tensor]:
    """Scales and minima [out, B] float16, and codes [out, B, 32] uint8 from 0 up."""
    data = blocks.data

    def half(begin: int) -> Tensor:
        return data[..., begin : begin + 2].contiguous().view(torch.float16)[..., 0]

    scales = half(0)
    if blocks.kind == "Q8_0":
        return scales, scales * -128.0, data[..., 2:] ^ 128
    minima, packed = (
        (half(2), data[..., 4:]) if blocks.kind == "Q4_1" else (scales * -8.0, data[..., 2:])
    )
    return scales, minima, torch.cat((packed & 15, packed >> 4), -1)


def pack_blocks(blocks: GgufBlocks) -> Tensor | None:
    """The matrix in tiles, or None where its size or its scales do not allow that.

    Returns: [in / 32, out · bytes]; uint8 for 4 bits, int8 for 8. The shape only tells the
        sizes: tiles lie one behind another.
    """
    scales, minima, codes = _parts(blocks)
    outputs, num_blocks = scales.shape
    tile = LINE_WORDS * 32 // blocks.bits
    if outputs % (tile // 2) or not bool(minima.isfinite().all()):
        return None
    whole = outputs // tile * tile
    spans = ((slice(whole), LINE_WORDS), (slice(whole, None), LINE_WORDS // 2))
    pieces = [
        _tiles(scales[span], minima[span], codes[span], words, blocks.bits)
        for span, words in spans
        if len(scales[span])
    ]
    packed = torch.cat(pieces).view(num_blocks, -1)
    return packed if blocks.bits == 4 else packed.view(torch.int8)


def _tiles(scales: Tensor, minima: Tensor, codes: Tensor, words: int, bits: int) -> Tensor:
    per_word = 32 // bits
    num_blocks, width = scales.shape[1], words * per_word
    heads = torch.stack((scales, minima)).view(2, -1, width, num_blocks).permute(1, 3, 0, 2)
    heads = heads.contiguous().view(torch.uint8).flatten(2)  # [tiles, B, 4 width]
    lines = codes.view(-1, per_word, words, num_blocks, BLOCK).permute(0, 3, 4, 2, 1)
    if bits == 4:
        lines = lines[..., ::2] | (lines[..., 1::2] << 4)
    return torch.cat((heads, lines.reshape(*heads.shape[:2], -1)), -1).flatten()


def unpack_blocks(blocks: GgufBlocks) -> Tensor:
    """[out, in] float32: the file's values."""
    scales, minima, codes = _parts(blocks)
    return (scales.float()[..., None] * codes + minima.float()[..., None]).flatten(1)
