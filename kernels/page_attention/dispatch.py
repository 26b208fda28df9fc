"""Hands blocks and plan to the CPU kernel as flat arrays, without copying keys or values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kernels.cpu.threads import cpu_kernel, kernel_threads
from kernels.kv_blocks import KVBlock, is_packed, lines_of
from kernels.page_attention.reference import Attended, AttentionPlan

if TYPE_CHECKING:
    from kernels.page_attention.chosen_pages import CacheBlock, StepRows

_MODULE = f"{__name__.rpartition('.')[0]}.cpu"
_DTYPES = (torch.float32, torch.bfloat16)


def cpu_kernel_fits(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> bool:
    """Return whether the kernel can take these: fp32 rows on a CPU, one or two blocks."""
    return (
        plan.has_kernels
        and query.device.type == "cpu"
        and query.dtype == torch.float32
        and len(blocks) <= 2
        and len({block.keys.dtype for block in blocks}) == 1
        and blocks[0].keys.dtype in _DTYPES
        and (plan.spans is not None or plan.valid_tokens is None)
        and all(_is_served(tensor) for block in blocks for tensor in _tensors(block))
        and cpu_kernel(_MODULE, "attend_rows") is not None
    )


def attend_on_cpu(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, share: float
) -> Attended:
    """As ``reference.attend``."""
    kernel = cpu_kernel(_MODULE, "attend_rows")
    assert kernel is not None
    num_rows, num_heads, _ = query.shape
    mixed, outside = torch.empty(query.shape), torch.empty(num_rows, num_heads)
    read = torch.empty(num_rows, dtype=torch.int64)
    kernel(
        query.contiguous().numpy(),
        (_arrange_block(blocks[-1]), _arrange_block(blocks[0])),
        _arrange_rows(blocks, plan, num_rows, share),
        (mixed.numpy(), read.numpy(), outside.numpy()),
        kernel_threads(),
    )
    return Attended(mixed, read[:, None] if plan.selects else None, outside)


def _is_served(lines: Tensor) -> bool:
    """Return whether sequences lie side by side, heads in them and lines in these."""
    sequences, heads, _, _ = lines.shape
    apart = min(sequences, heads) > 1 and lines.stride(0) != heads * lines.stride(1)
    return is_packed(lines) and not apart


def _tensors(block: KVBlock) -> list[Tensor]:
    """All of a block; codes and scales as lines."""
    tensors = [block.keys, block.values]
    if block.codes is not None and block.scales is not None:
        tensors += [block.codes.flatten(3), block.scales.flatten(3)]
    return tensors


def _arrange_block(block: KVBlock) -> CacheBlock:
    from kernels.page_attention.chosen_pages import CacheBlock

    size, keys = block.keys.shape[3], lines_of(block.keys)
    codes, scales = np.empty((0, 4 * size), np.uint8), np.empty((0, 16), np.uint16)
    octet_capacity = 0
    if block.codes is not None and block.scales is not None:
        codes, scales = lines_of(block.codes.flatten(3)), lines_of(block.scales.flatten(3))
        octet_capacity = _capacity(block.codes.flatten(3))
    return CacheBlock(
        keys,
        lines_of(block.values),
        _capacity(block.keys),
        codes,
        scales,
        octet_capacity,
    )


def _capacity(lines: Tensor) -> int:
    """Lines from one head of a packed [N, Hkv, S, X] to the next, also to the next sequence's."""
    sequences, heads, count, size = lines.shape
    if heads > 1:
        return lines.stride(1) // size
    return lines.stride(0) // size if sequences > 1 else count


def _arrange_rows(
    blocks: Sequence[KVBlock], plan: AttentionPlan, num_rows: int, share: float
) -> StepRows:
    from kernels.page_attention.chosen_pages import StepRows

    first, last = blocks[0], blocks[-1]
    sources = torch.arange(first.keys.shape[0]) if first.sources is None else first.sources
    spans, kept = plan.spans, plan.pages_kept
    if spans is None:
        shared = first.keys.shape[2] if len(blocks) == 2 else 0
        spans = torch.tensor([[shared], [last.keys.shape[2] - 1], [0]]).expand(3, num_rows)
    if kept is None:
        kept = torch.full((num_rows,), sum(block.keys.shape[2] for block in blocks))
    floors = torch.empty(0) if plan.floors is None else plan.floors
    shared_tokens, own_tokens, first_seen = spans.contiguous().numpy()
    return StepRows(
        sources=sources.repeat_interleave(num_rows // sources.shape[0]).numpy(),
        shared_tokens=shared_tokens,
        own_tokens=own_tokens,
        first_seen=first_seen,
        pages_kept=kept.contiguous().numpy(),
        floors=floors.contiguous().numpy(),
        page_size=plan.page_size,
        num_kv_heads=first.keys.shape[1],
        scale=np.float32(1.0),
        extend=False,
        best_share=share,
        left_out=np.empty((num_rows, 0), np.uint8),
    )
