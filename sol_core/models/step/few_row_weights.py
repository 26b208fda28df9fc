"""Prepares a model's weights for the few-row kernel, once, before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.cpu import as_array
from kernels.cpu.threads import kernel_threads
from kernels.decode_layer import DTYPES, MOST_HEADS, lies_out_major, multiplies_quantised
from kernels.quantised_weights import BYTES_4, BYTES_8, HEADER, pack_blocks
from sol_core.models.huge_pages import HugePages
from sol_core.models.spec import MatrixBytes, ModelSpec, WeightBytes
from sol_core.models.weights import LayerWeights, Linear, ModelWeights

_MLP_NORM, _GATE_UP, _DOWN = 8, 9, 10  # indices among a layer's arrays


class KernelWeights:
    """A model's arrays and the table of their addresses; the arrays must outlive the table.

    Attributes:
        arrays: per layer, in the order of ``AttentionWeights``, then of ``MlpWeights``.
        table: ModelTable.
        quantised: whether they are a GGUF file's blocks.
        nbytes: bytes of them that a step reads.
    """

    def __init__(self, spec: ModelSpec, model: ModelWeights) -> None:
        from kernels.cpu.addresses import table_of
        from kernels.decode_layer.step import ModelTable

        # A pruned channel must be one row. 16-bit weights have the other layout, for products of
        # many rows, so gate and up are copied when few rows are first decoded.
        in_major = all(layer.gate_up.weight.is_contiguous() for layer in model.layers)
        packed = packed_weights(model) if multiplies_quantised() else None
        self.quantised = packed is not None
        blocks = 0 if in_major or packed else kernel_threads()
        if packed is None:
            pages = HugePages()
            matrices = [_unpacked_matrices(layer, blocks, pages) for layer in model.layers]
            head, head_out_major = _matrix(model.head)
            out_major = _matrix(model.layers[0].attention_output)[1]
        else:
            matrices = [[as_array(matrix) for matrix in some] for some in packed[0]]
            head, head_out_major, out_major = as_array(packed[1]), False, False
        pairs = zip(model.layers, matrices, strict=True)
        self.arrays = [_layer_arrays(layer, some) for layer, some in pairs]
        self.nbytes = _weight_bytes(self.arrays, head)
        ropes, int64 = list(dict.fromkeys(spec.ropes)), partial(np.array, dtype=np.int64)
        self.table = ModelTable(
            locations=table_of(self.arrays),
            final_norm=as_array(model.final_norm),
            like=self.arrays[0][_GATE_UP][:1, :1],
            head=head,
            head_out_major=head_out_major,
            out_major=out_major,
            gelu=spec.activation == "gelu_tanh",
            epsilon=np.float32(spec.norm_eps),
            blocks=blocks,
            ropes=int64([ropes.index(rope) for rope in spec.ropes]),
            middle=int64(spec.middle_layers),
            widths=int64([spec.query_width + 2 * spec.kv_width, spec.intermediate_size]),
        )


def fits_kernels(spec: ModelSpec, model: ModelWeights) -> bool:
    """Return whether the kernels support a model's weights."""
    head = model.head.weight
    grouped = spec.num_heads // spec.num_kv_heads <= MOST_HEADS and spec.attention_cap is None
    stored = head.device.type == "cpu" and head.dtype in DTYPES and model.head.bias is None
    fits = stored and grouped and lies_out_major(head) is not None
    return fits and all(_fits(layer, head.dtype, spec.head_size) for layer in model.layers)


def _weight_bytes(layers: Sequence[Sequence[Any]], head: Any) -> WeightBytes:
    def nbytes(first: int, end: int) -> float:
        return float(sum(array.nbytes for arrays in layers for array in arrays[first:end]))

    def matrix(array: Any, size: float, beside: float = 0.0) -> MatrixBytes:
        bits, headers = _STORAGE[array.dtype.name]
        return MatrixBytes(beside + size * headers, size * (1 - headers), bits)

    first = layers[0]
    return WeightBytes(
        # Includes norms and biases, 0.1 %.
        attention=matrix(first[1], nbytes(0, _MLP_NORM)),
        gate_up=matrix(first[_GATE_UP], nbytes(_GATE_UP, _DOWN), nbytes(_MLP_NORM, _GATE_UP)),
        down=matrix(first[_DOWN], nbytes(_DOWN, _DOWN + 1), nbytes(_DOWN + 1, len(first))),
        head=matrix(head, float(head.nbytes)),
    )


# By array type: bits per weight, and the fraction of bytes that are scales and minima.
_STORAGE = {
    "float32": (32, 0.0),
    "uint16": (16, 0.0),
    "uint8": (4, HEADER / BYTES_4),
    "int8": (8, HEADER / BYTES_8),
}


def _fits(layer: LayerWeights, dtype: torch.dtype, head_size: int) -> bool:
    """Return whether the kernels support a layer's weights and norms."""
    around, of_heads = (layer.attention_norm, layer.mlp_norm), (layer.query_norm, layer.key_norm)
    one_row = (layer.query_key_value, layer.attention_output, layer.down)
    layouts = {lies_out_major(linear.weight) for linear in one_row}
    return (
        all(norm is not None and norm.dtype == torch.float32 for norm in around)
        and all(norm is None or norm.shape[0] == head_size for norm in of_heads)
        and {linear.weight.dtype for linear in layer.matrices} == {dtype}
        and layouts in ({True}, {False})
        and layer.gate_up.bias is None
        and layer.down.bias is None
    )


def _unpacked_matrices(layer: LayerWeights, blocks: int, pages: HugePages) -> list[Any]:
    """Return query-key-value, attention output, gate-up and down as arrays."""
    from kernels.decode_layer.mlp import in_blocks

    mlp = [as_array(layer.gate_up.weight), as_array(layer.down.weight)]
    if blocks:
        cut = [in_blocks(matrix, blocks, sides) for matrix, sides in zip(mlp, (2, 1), strict=True)]
        mlp = [pages.copy(torch.from_numpy(matrix)).numpy() for matrix in cut]
    return [_matrix(layer.query_key_value)[0], _matrix(layer.attention_output)[0], *mlp]


def packed_weights(weights: ModelWeights) -> tuple[list[list[Tensor]], Tensor] | None:
    """Pack each layer's matrices and the head for the few-row kernels; None if unsupported."""
    pages = HugePages()
    head = _packed(weights.head, 8, pages)
    first = weights.layers[0].gate_up.blocks
    layers: list[list[Tensor]] = []
    for layer in weights.layers if head is not None else ():
        some = [_packed(linear, first.bits if first else 0, pages) for linear in layer.matrices]
        whole = [matrix for matrix in some if matrix is not None]
        # Gate and up are one matrix, and up's first output must begin a tile.
        if len(whole) < len(some) or layer.gate_up.weight.shape[1] % 256:
            return None
        layers.append(whole)
    return None if head is None else (layers, head)


def _packed(linear: Linear, bits: int, pages: HugePages) -> Tensor | None:
    blocks = linear.blocks
    packed = None if blocks is None or blocks.bits != bits else pack_blocks(blocks)
    return None if packed is None else pages.copy(packed)


def _layer_arrays(layer: LayerWeights, matrices: Sequence[Any]) -> list[Any]:
    """Return a layer's arrays in the order of AttentionWeights, then of MlpWeights."""
    query_key_value, attention_output, gate_up, down = matrices
    return [
        _vector(layer.attention_norm),
        query_key_value,
        _vector(layer.query_key_value.bias),
        _vector(layer.query_norm),
        _vector(layer.key_norm),
        attention_output,
        _vector(layer.attention_output.bias),
        _vector(layer.attention_output_norm),
        _vector(layer.mlp_norm),
        gate_up,
        down,
        _vector(layer.mlp_output_norm),
        _vector(layer.down_norms),
    ]


def _matrix(linear: Linear) -> tuple[Any, bool]:
    """Return the weights in memory order, and whether that is [out, in]."""
    out_major = bool(lies_out_major(linear.weight))
    return as_array(linear.weight.t() if out_major else linear.weight), out_major


def _vector(values: Tensor | None) -> Any:
    return (torch.empty(0) if values is None else values.float().contiguous()).numpy()
