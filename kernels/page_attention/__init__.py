"""Page-sparse decode attention (Quest, arXiv:2406.10774): page scores, selection, attention."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kernels.cpu.threads import cpu_kernel, kernel_threads
from kernels.gpu.triton_support import by_kernels
from kernels.kv_blocks import KVBlock, is_packed, lines_of
from kernels.page_attention import reference
from kernels.page_attention.reference import (
    Attended,
    AttentionPlan,
    group_fractions,
    mass_by_page,
    mass_of_pages,
    mass_outside_of_row,
    page_mass_outside,
    page_need,
    page_readers,
    soft_cap,
)
from kernels.page_attention.triton_dispatch import attend_with_triton

if TYPE_CHECKING:
    from kernels.page_attention.chosen_pages import CacheBlock, StepRows

__all__ = [
    "Attended", "AttentionPlan", "KVBlock", "attend", "group_fractions", "mass_of_pages",
    "mass_outside_of_row", "page_mass_outside", "page_need", "soft_cap",
]  # fmt: skip

_CPU = f"{__name__}.cpu", "attend_rows"
_CPU_DTYPES = (torch.float32, torch.bfloat16)


def attend(
    query: Tensor,
    blocks: Sequence[KVBlock],
    plan: AttentionPlan,
    best_fraction: float = 0.0,
    cap: float | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    readers: bool = False,
    masses: bool = False,
) -> Attended:
    """``reference.attend``, on request with ``reference.page_readers`` and ``mass_by_page``.

    On CUDA in Triton, on a CPU in Numba, unless scores have a cap, which no kernel knows.
    """
    attended = None
    if cap is None:
        run = partial(attend_with_triton, readers=readers)
        given = query, blocks, plan, best_fraction, dtype
        attended = by_kernels("page_attention", query, run, *given)
    if attended is None:
        if cap is None and dtype == torch.float32 and cpu_kernel_fits(query, blocks, plan):
            attended = attend_on_cpu(query, blocks, plan, best_fraction)
        else:
            attended = reference.attend(query, blocks, plan, best_fraction, cap, dtype)
    if readers and attended.readers is None:
        attended = attended._replace(readers=page_readers(query, blocks, plan))
    if masses:
        attended = attended._replace(page_mass=mass_by_page(query, blocks, plan, cap))
    return attended


def cpu_kernel_fits(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> bool:
    """Return whether the kernel can take these: fp32 rows on a CPU, one or two blocks."""
    return (
        plan.has_kernels
        and query.device.type == "cpu"
        and query.dtype == torch.float32
        and len(blocks) <= 2
        and len({block.keys.dtype for block in blocks}) == 1
        and blocks[0].keys.dtype in _CPU_DTYPES
        and (plan.spans is not None or plan.valid_tokens is None)
        and all(_is_served(tensor) for block in blocks for tensor in _tensors(block))
        and cpu_kernel(*_CPU) is not None
    )


def attend_on_cpu(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, best_fraction: float
) -> Attended:
    """``reference.attend`` by the CPU kernel, of what ``cpu_kernel_fits``."""
    kernel = cpu_kernel(*_CPU)
    assert kernel is not None
    num_rows, num_heads, _ = query.shape
    mixed, outside = torch.empty(query.shape), torch.empty(num_rows, num_heads)
    read = torch.empty(num_rows, dtype=torch.int64)
    kernel(
        query.contiguous().numpy(),
        (_arrange_block(blocks[-1]), _arrange_block(blocks[0])),
        _arrange_rows(blocks, plan, num_rows, best_fraction),
        (mixed.numpy(), read.numpy(), outside.numpy()),
        kernel_threads(),
    )
    return Attended(mixed, read[:, None] if plan.selects else None, outside)


def _is_served(lines: Tensor) -> bool:
    """Return whether sequences lie side by side, heads in them, and in these lines of X numbers."""
    sequences, heads, _, _ = lines.shape
    apart = min(sequences, heads) > 1 and lines.stride(0) != heads * lines.stride(1)
    return is_packed(lines) and not apart


def _tensors(block: KVBlock) -> list[Tensor]:
    """All of a block [N, Hkv, S, X]; codes and scales as lines of octets."""
    tensors = [block.keys, block.values]
    if block.codes is not None and block.scales is not None:
        tensors += [block.codes.flatten(3), block.scales.flatten(3)]
    return tensors


def _arrange_block(block: KVBlock) -> CacheBlock:
    from kernels.page_attention.chosen_pages import CacheBlock

    tensors = _tensors(block)
    arrays, capacities = [lines_of(some) for some in tensors], [_capacity(some) for some in tensors]
    if len(tensors) == 2:  # without 4-bit keys
        arrays += [np.empty((0, 4 * block.keys.shape[3]), np.uint8), np.empty((0, 16), np.uint16)]
        capacities.append(0)
    keys, values, codes, scales = arrays
    return CacheBlock(keys, values, capacities[0], codes, scales, capacities[2])


def _capacity(lines: Tensor) -> int:
    """Lines from one head of a packed [N, Hkv, S, X] to the next, also to the next sequence's."""
    sequences, heads, count, size = lines.shape
    if heads > 1:
        return lines.stride(1) // size
    return lines.stride(0) // size if sequences > 1 else count


def _arrange_rows(
    blocks: Sequence[KVBlock], plan: AttentionPlan, num_rows: int, best_fraction: float
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
        best_fraction=best_fraction,
        left_out=np.empty((num_rows, 0), np.uint8),
    )
