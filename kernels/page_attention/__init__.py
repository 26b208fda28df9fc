"""Page-sparse decode attention (Quest, arXiv:2406.10774): page scores, selection, attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.gpu.triton_support import fits
from kernels.kv_blocks import KVBlock
from kernels.page_attention import reference
from kernels.page_attention.dispatch import attend_on_cpu, cpu_kernel_fits
from kernels.page_attention.reference import (
    Attended,
    AttentionPlan,
    group_shares,
    mass_by_page,
    mass_of_pages,
    mass_outside_of_row,
    page_mass_outside,
    page_need,
    page_readers,
    soft_cap,
)
from kernels.page_attention.triton_checks import check_attention
from kernels.page_attention.triton_dispatch import attend_with_triton

__all__ = [
    "Attended",
    "AttentionPlan",
    "KVBlock",
    "attend",
    "group_shares",
    "mass_of_pages",
    "mass_outside_of_row",
    "page_mass_outside",
    "page_need",
    "soft_cap",
]


def attend(
    query: Tensor,
    blocks: Sequence[KVBlock],
    plan: AttentionPlan,
    share: float = 0.0,
    cap: float | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    readers: bool = False,
    masses: bool = False,
) -> Attended:
    """As ``reference.attend``; on request with ``reference.page_readers`` and ``mass_by_page``.

    On CUDA in Triton, on a CPU in Numba, unless scores have a cap, which no kernel knows.
    """
    if cap is None and fits("page_attention", query, lambda: check_attention(query, blocks, plan)):
        attended = attend_with_triton(query, blocks, plan, share, dtype, readers=readers)
    elif cap is None and dtype == torch.float32 and cpu_kernel_fits(query, blocks, plan):
        attended = attend_on_cpu(query, blocks, plan, share)
    else:
        attended = reference.attend(query, blocks, plan, share, cap, dtype)
    if readers and attended.readers is None:
        attended = attended._replace(readers=page_readers(query, blocks, plan))
    if masses:
        attended = attended._replace(page_mass=mass_by_page(query, blocks, plan, cap))
    return attended
