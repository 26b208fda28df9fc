"""Every kernel launch that ships, noted instead of run, which ahead-of-time compilation checks."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from kernels.activation_quantisation import quantise_rows
from kernels.channel_pruning import MAX_PRUNED, prune_rows
from kernels.gated_mlp import MlpPlan, MlpWeights
from kernels.gated_mlp.triton_dispatch import (
    MAX_ROWS,
    activate_with_triton,
    multiply_with_triton,
)
from kernels.gpu.triton_support import KERNEL_DTYPES, Launch, recorded_launches
from kernels.kv_write import NewTokens, rotate_and_write_with_triton
from kernels.page_attention import AttentionPlan, KVBlock
from kernels.page_attention.triton_checks import largest_head
from kernels.page_attention.triton_dispatch import attend_with_triton
from kernels.residual import Residual, enter_with_triton

HEAD_SIZES = (64, 128, 256)  # others run padded to these
GROUPS = (1, 16)  # rows that share a prefix
PAGE_SIZES = (1, 4, 8, 16, 32, 64)  # each weighed in a tile of its own
PAGE_COUNTS = (512, 4096, 16384)  # block sizes of the kernels that rank pages
WIDTHS = (1024, 4096, 8192, 16384)  # block sizes of the kernels with one program a row


@cache
def shipped_launches() -> tuple[Launch, ...]:
    """Distinct launches of all operations, in a fixed order."""
    with recorded_launches() as record:
        for dtype in KERNEL_DTYPES:
            _attend_and_write(dtype)
            _multiply(dtype)
        for pages in PAGE_COUNTS:
            _attend(torch.bfloat16, 64, 1, pages)
            _attend(torch.bfloat16, 64, 1, pages, need=True)
        for page_size in PAGE_SIZES:
            for head_size in HEAD_SIZES:
                for group in GROUPS:
                    _attend(torch.bfloat16, head_size, group, 128, page_size)
        for width in WIDTHS:
            _rows(width)
    return tuple(dict.fromkeys(record))


def _attend_and_write(dtype: torch.dtype) -> None:
    for head_size in HEAD_SIZES:
        if head_size > largest_head(dtype):
            continue
        for group in GROUPS:
            _attend(dtype, head_size, group, 128)
        cached = torch.empty(1, 1, 8, head_size, dtype=dtype)
        codes = torch.empty(1, 1, 1, head_size // 8, 8, 4, dtype=torch.uint8)
        scales = torch.empty(1, 1, 1, 2, 8, dtype=torch.bfloat16)
        angles = torch.empty(1, head_size)
        for heads in (torch.empty(1, 3, head_size), torch.empty(1, 3, head_size, dtype=dtype)):
            new = NewTokens(heads, angles, angles, 0.125)
            rotate_and_write_with_triton(new, (cached, cached), _counts(1), (codes, scales))


def _attend(
    dtype: torch.dtype,
    head_size: int,
    rows: int,
    pages: int,
    page_size: int = 8,
    *,
    need: bool = False,
) -> None:
    """One step of rows with 4 heads over one sequence; pages by a number or by ``need``."""
    tokens = page_size * pages
    keys = torch.empty(1, 1, tokens, head_size, dtype=dtype)
    octets = (1, 1, -(-tokens // 8))
    plan = AttentionPlan(
        page_size,
        torch.empty(rows, tokens, dtype=torch.bool),
        torch.empty(rows, pages, dtype=torch.bool),
        _counts(rows),
        torch.empty(rows, pages, dtype=torch.int64),
        "int4",
        "group",
        torch.empty(rows) if need else None,
    )
    codes = torch.empty(*octets, head_size // 8, 8, 4, dtype=torch.uint8)
    scales = torch.empty(*octets, 2, 8, dtype=torch.bfloat16)
    block = KVBlock(keys, keys, None, None, None, codes, scales)
    for mixed in (torch.float32, dtype):
        attend_with_triton(torch.empty(rows, 4, head_size), [block], plan, 0.4, mixed)


def _multiply(dtype: torch.dtype) -> None:
    """MLPs of few and many rows, narrow (channels are split) and wide (fused activation)."""
    for rows in (1, MAX_ROWS):
        for width, inner in ((512, 1024), (64, 16_384)):
            weights = MlpWeights(
                torch.empty(width, 2 * inner, dtype=dtype),
                torch.empty(inner, width, dtype=dtype),
                down_norms=torch.empty(inner),
            )
            for plan in (MlpPlan(_counts(rows)), MlpPlan(_counts(rows), inner_kept=_counts(rows))):
                residual = _residual(torch.empty(rows, width), dtype)
                multiply_with_triton(residual, weights, plan)


def _rows(width: int) -> None:
    """The kernels with one program a row; they compute in fp32 whatever the dtype."""
    for dtype in KERNEL_DTYPES:
        rows = torch.empty(1, width, dtype=dtype)
        quantise_rows(rows, _counts(1))
        outer = min(width, MAX_PRUNED)
        weights = MlpWeights(
            torch.empty(outer, 2 * width, dtype=dtype),
            torch.empty(width, outer, dtype=dtype),
            down_norms=torch.empty(width),
        )
        for kept in (None, _counts(1)):
            plan = MlpPlan(_counts(1), _counts(1), quantise_inputs=True, inner_kept=kept)
            multiply_with_triton(_residual(torch.empty(1, outer), dtype), weights, plan)
        enter_with_triton(_residual(torch.empty(1, width), dtype), dtype)
        activate_with_triton(torch.empty(1, 2 * width, dtype=dtype), "silu")
    if width <= MAX_PRUNED:
        prune_rows(torch.empty(1, width), _counts(1))


def _residual(hidden: Tensor, dtype: torch.dtype) -> Residual:
    return Residual(hidden, hidden.to(dtype), torch.empty(hidden.shape[1]), 1e-5)


def _counts(rows: int) -> Tensor:
    return torch.empty(rows, dtype=torch.int64)
