"""Every kernel launch that ships: what ahead-of-time compilation checks.

Each operation is called for every combination of sizes and dtypes that selects other
code; launches are noted instead of run, so this list cannot drift from what is launched.
"""

from __future__ import annotations

from functools import cache

import torch

from kernels.page_attention import AttentionPlan, KVBlock
from kernels.page_attention.triton_dispatch import attend_with_triton
from kernels.triton_support import KERNEL_DTYPES, Launch, recorded_launches

__all__ = ["shipped_launches"]

HEAD_SIZES = (64, 128, 256)  # others run padded to these
GROUPS = (1, 16)  # rows that share a prefix
CACHED_TOKENS = (1024, 16384, 131072)


@cache
def shipped_launches() -> tuple[Launch, ...]:
    """Distinct launches of all operations, in a fixed order."""
    with recorded_launches() as record:
        for dtype in KERNEL_DTYPES:
            for head_size in HEAD_SIZES:
                for group in GROUPS:
                    _attend(dtype, head_size, group, 1024)
        for tokens in CACHED_TOKENS:
            _attend(torch.bfloat16, 64, 1, tokens)
    return tuple(dict.fromkeys(record))


def _attend(dtype: torch.dtype, head_size: int, rows: int, tokens: int) -> None:
    """One step of ``rows`` rows, 4 heads each, over one sequence."""
    page_size = 8
    keys = torch.empty(1, 1, 1, 1, dtype=dtype).expand(1, 1, 1, 1)
    keys = torch.empty(1, 1, tokens, head_size, dtype=dtype)
    bound = keys[:, :, : tokens // page_size]
    plan = AttentionPlan(
        page_size,
        torch.ones(rows, tokens, dtype=torch.bool),
        torch.ones(rows, tokens // page_size, dtype=torch.bool),
        torch.ones(rows, dtype=torch.int64),
        torch.ones(rows, tokens // page_size, dtype=torch.int64),
    )
    attend_with_triton(torch.empty(rows, 4, head_size), [KVBlock(keys, keys, bound, bound)], plan, 0.4)
