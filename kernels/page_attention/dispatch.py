"""Hands blocks and plan to the CPU kernel as flat arrays, without copying keys or values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kernels.cpu.threads import MANY_ROWS, cpu_kernel
from kernels.kv_blocks import KVBlock, is_packed, lines_of
from kernels.page_attention.reference import Attended, AttentionPlan
from kernels.page_scorers import PAGE_SCORERS

if TYPE_CHECKING:
    from kernels.page_attention.cpu import CpuBlock, CpuPlan

_HERE = __name__.rpartition(".")[0]
_DTYPES = (torch.float32, torch.bfloat16)


def cpu_kernel_fits(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> bool:
    """Return whether the kernel can take these: many fp32 rows on a CPU, one or two blocks."""
    return (
        plan.choice in PAGE_SCORERS[plan.scorer].cpu_kernels
        and query.device.type == "cpu"
        and query.shape[0] >= MANY_ROWS
        and query.dtype == torch.float32
        and len(blocks) <= 2
        and len({block.keys.dtype for block in blocks}) == 1
        and blocks[0].keys.dtype in _DTYPES
        and all(is_packed(tensor) for block in blocks for tensor in _tensors(block))
        and _kernel(plan) is not None
        and _fills_vectors(query.shape[2])
    )


def attend_on_cpu(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, share: float
) -> Attended:
    """As ``reference.attend``."""
    kernel = _kernel(plan)
    assert kernel is not None
    num_rows, num_heads, _ = query.shape
    arranged = [_arrange_block(block, num_rows) for block in blocks]
    first = arranged[0] if len(arranged) == 2 else arranged[0]._replace(tokens=0)
    mixed = torch.zeros(query.shape)
    read = torch.empty(num_rows, blocks[0].keys.shape[1], dtype=torch.int64)
    outside = torch.empty(num_rows, num_heads)
    kernel(
        query.contiguous().numpy(),
        first,
        arranged[-1],
        _arrange_plan(plan, blocks, num_rows, share),
        mixed.numpy(),
        read.numpy(),
        outside.numpy(),
    )
    return Attended(mixed, read.sum(1) if plan.selects else None, outside)


def _kernel(plan: AttentionPlan) -> Callable[..., None] | None:
    module, name = PAGE_SCORERS[plan.scorer].cpu_kernels[plan.choice]
    return cpu_kernel(f"{_HERE}.{module}", name)


def _fills_vectors(head_size: int) -> bool:
    from kernels.cpu.vector_octets import LANES

    return head_size % LANES == 0


def _tensors(block: KVBlock) -> list[Tensor]:
    return [block.keys, block.values, *_scored_by(block)]


def _scored_by(block: KVBlock) -> list[Tensor]:
    """Return what the pages are scored by: bounds, or codes and scales as lines; or nothing."""
    if block.page_min is not None and block.page_max is not None:
        return [block.page_min, block.page_max]
    if block.codes is not None and block.scales is not None:
        return [block.codes.flatten(3), block.scales.flatten(3)]
    return []


def _arrange_block(block: KVBlock, num_rows: int) -> CpuBlock:
    from kernels.page_attention.cpu import CpuBlock

    keys, size = block.keys, block.keys.shape[3]
    low, high = _scored_by(block) or (keys, keys)
    sources = np.arange(keys.shape[0]) if block.sources is None else block.sources.numpy()
    row, head, _, _ = keys.stride()
    page_row, page_head, line, _ = low.stride()
    return CpuBlock(
        lines_of(keys),
        lines_of(block.values),
        lines_of(low),
        lines_of(high),
        row // size,
        head // size,
        page_row // line,
        page_head // line,
        keys.shape[2],
        sources,
        num_rows // sources.shape[0],
    )


def _arrange_plan(
    plan: AttentionPlan, blocks: Sequence[KVBlock], num_rows: int, share: float
) -> CpuPlan:
    from kernels.page_attention.cpu import CpuPlan

    num_pages = sum(-(-block.keys.shape[2] // plan.page_size) for block in blocks)
    valid_pages, valid_tokens = plan.valid_pages, plan.valid_tokens
    if valid_pages is None and valid_tokens is not None:
        padded = torch.nn.functional.pad(valid_tokens, (0, -valid_tokens.shape[1] % plan.page_size))
        valid_pages = padded.unflatten(1, (-1, plan.page_size)).any(-1)
    elif valid_pages is None:
        valid_pages = torch.ones(num_rows, num_pages, dtype=torch.bool)
    kept, tokens = plan.pages_kept, plan.tokens_per_page
    if kept is None:
        kept = torch.full((num_rows,), num_pages)
    unused = torch.zeros(1, 1, dtype=torch.bool)
    return CpuPlan(
        plan.page_size,
        blocks[0].keys.shape[1],
        valid_tokens is not None,
        (unused if valid_tokens is None else valid_tokens.contiguous()).numpy(),
        valid_pages.contiguous().numpy(),
        kept.numpy(),
        (torch.empty(0) if plan.floors is None else plan.floors.contiguous()).numpy(),
        (unused.long() if tokens is None else tokens.contiguous()).numpy(),
        share,
    )
