"""Quantised matrices in the form that the kernels of few rows take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kernels.quantised_weights import pack_blocks

if TYPE_CHECKING:
    from sol_core.models.weights import Linear, ModelWeights

PackedWeights = tuple[list[list[Tensor]], Tensor]


def packed_weights(weights: ModelWeights) -> PackedWeights | None:
    """All matrices as the few-row kernels take them: per layer, and the head."""
    head = _packed(weights.head, 8)
    first = weights.layers[0].gate_up.blocks
    layers: list[list[Tensor]] = []
    for layer in weights.layers if head is not None else ():
        some = [_packed(linear, first.bits if first else 0) for linear in layer.matrices]
        whole = [matrix for matrix in some if matrix is not None]
        # Gate and up are one matrix: up's first output must begin a tile.
        if len(whole) < len(some) or layer.gate_up.weight.shape[1] % 256:
            return None
        layers.append(whole)
    return None if head is None else (layers, head)


def _packed(linear: Linear, bits: int) -> Tensor | None:
    blocks = linear.blocks
    return None if blocks is None or blocks.bits != bits else pack_blocks(blocks)
