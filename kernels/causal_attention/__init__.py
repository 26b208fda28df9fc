"""Dense causal attention of many new tokens at once, for the prefill."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from kernels.causal_attention import reference
from kernels.cpu import as_array
from kernels.cpu.threads import MANY_ROWS, cpu_kernel, torch_with_numba
from kernels.kv_blocks import KVBlock, is_packed, lines_of

_TORCH_WITH_TILES = 1024  # tokens up to which torch, which uses a matrix unit too, is as fast


def causal_attention(
    query: Tensor, block: KVBlock, *, scale: float, window: int | None, cap: float | None = None
) -> Tensor:
    """``reference.causal_attention``; many tokens go to Numba on a CPU where that is faster.

    In bfloat16 those are CPUs that multiply pairs, in half of torch's time; in float32 those with
    AVX-512 and no matrix unit, where torch takes 1.4 to 2.4 times as long.
    """
    new, keys = query.shape[2], block.keys
    fits = (
        cap is None
        and query.device.type == "cpu"
        and query.dtype == torch.float32
        and keys.dtype in (torch.float32, torch.bfloat16)
        and new >= MANY_ROWS
        and is_packed(keys)
        and is_packed(block.values)
    )
    kernel = cpu_kernel(f"{__name__}.cpu", "attend_causally") if fits else None
    if kernel is not None and _multiplies_pairs(keys):
        return _in_pairs(query, block, scale, window or 0)
    if kernel is None or not _suits(keys.shape[3]):
        return reference.causal_attention(query, block, scale=scale, window=window, cap=cap)
    heads = query.transpose(1, 2).contiguous()
    mixed = torch.empty(heads.shape, dtype=keys.dtype)
    sizes = keys.shape[2] - new, *_lines_apart(keys), keys.shape[1], window or 0
    arrays = (heads * scale).numpy(), lines_of(keys), lines_of(block.values)
    with torch_with_numba():
        kernel(*arrays, sizes, as_array(mixed))
    return mixed.transpose(1, 2)


def _in_pairs(query: Tensor, block: KVBlock, scale: float, window: int) -> Tensor:
    cpu: Any = import_module(f"{__name__}.cpu")
    keys = block.keys
    rows, num_heads, cached, size = keys.shape
    # Scores are powers of two, so the logarithm is in their scale.
    scaled = (query * (scale * math.log2(math.e))).to(keys.dtype).transpose(1, 2).contiguous()
    mixed = torch.empty(scaled.shape, dtype=keys.dtype)
    packed = [
        torch.empty(rows * num_heads, -(-cached // cpu.PAIR_TILE), *shape, dtype=torch.int32)
        for shape in ((size // 2, cpu.PAIR_TILE), (cpu.PAIR_TILE // 2, size))
    ]
    pairs = [tensor.numpy().view("uint32") for tensor in (scaled.view(torch.int32), *packed)]
    lines = *_lines_apart(keys), num_heads, cached
    sizes = cached - query.shape[2], num_heads, window
    with torch_with_numba():
        cpu.pack_pairs(lines_of(keys), lines_of(block.values), lines, *pairs[1:])
        cpu.attend_in_pairs(*pairs, sizes, cpu.tile_shapes(), as_array(mixed))
    return mixed.transpose(1, 2)


def _lines_apart(keys: Tensor) -> tuple[int, int]:
    """Lines between two rows and between two key-value heads."""
    row, head, _, _ = keys.stride()
    return row // keys.shape[3], head // keys.shape[3]


def _multiplies_pairs(keys: Tensor) -> bool:
    from kernels.causal_attention.pairs import COLUMNS, has_tiles
    from kernels.cpu.numba_helpers import cpu_has

    fits = keys.dtype == torch.bfloat16 and keys.shape[3] % COLUMNS == 0 and cpu_has("avx512bf16")
    return fits and not (has_tiles() and keys.shape[2] <= _TORCH_WITH_TILES)


def _suits(head_size: int) -> bool:
    from kernels.cpu.numba_helpers import cpu_has
    from kernels.cpu.vector_octets import LANES

    return cpu_has("avx512f") and not cpu_has("amx-bf16") and head_size % LANES == 0
