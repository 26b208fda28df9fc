"""Page-sparse decode attention (Quest, arXiv:2406.10774): page bounds, selection, attention."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from kernels.kv_blocks import KVBlock
from kernels.page_attention import reference
from kernels.page_attention.dispatch import attend_on_cpu, cpu_kernel_fits
from kernels.page_attention.reference import (
    AttentionPlan,
    page_mass_outside,
    page_readers,
    select_pages,
    soft_cap,
)
from kernels.page_attention.triton_dispatch import attend_with_triton, triton_fits
from kernels.page_scorers.quest import page_bounds, page_scores

__all__ = [
    "AttentionPlan",
    "KVBlock",
    "decode_attention",
    "observed_attention",
    "page_bounds",
    "page_mass_outside",
    "page_readers",
    "page_scores",
    "select_pages",
    "soft_cap",
]


def decode_attention(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, cap: float | None = None
) -> Tensor:
    """As ``reference.decode_attention``; on CUDA in Triton, many rows on a CPU in Numba, unless
    scores have a cap, which no kernel knows."""
    if cap is None and triton_fits(query, blocks, plan):
        return attend_with_triton(query, blocks, plan, 0.0)[0]
    if cap is None and cpu_kernel_fits(query, blocks, plan):
        return attend_on_cpu(query, blocks, plan, 0.0)[0]
    return reference.decode_attention(query, blocks, plan, cap)


def observed_attention(
    query: Tensor,
    blocks: Sequence[KVBlock],
    plan: AttentionPlan,
    share: float,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``decode_attention`` and ``reference.mass_outside``: [R, H, D] and [R, H]."""
    if cap is None and triton_fits(query, blocks, plan):
        return attend_with_triton(query, blocks, plan, share)
    if cap is None and cpu_kernel_fits(query, blocks, plan):
        return attend_on_cpu(query, blocks, plan, share)
    outside = reference.mass_outside(query, blocks, plan, share)
    return reference.decode_attention(query, blocks, plan, cap), outside
