"""Checks of the Triton kernels of page-sparse attention; each refusal names its cause."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from kernels.gpu.triton_support import (
    KERNEL_DTYPES,
    KernelInputError,
    UnsupportedByKernel,
    check_operands,
)
from kernels.key_codes import OCTET
from kernels.kv_blocks import KVBlock
from kernels.page_attention.reference import AttentionPlan

HEAD_SIZES = range(16, 257, 8)
PAGE_SIZES = range(1, 65)
MAX_PAGES = 16384  # one program ranks all pages of a head
MAX_SPLITS = 64
MAX_OFFSET = 2**31 - 1  # int32 offsets


def check_attention(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> None:
    """Raise UnsupportedByKernel or KernelInputError, naming the argument, for what is refused."""
    if query.dim() != 3 or query.dtype != torch.float32:
        raise UnsupportedByKernel(
            f"query must be [R, H, D] float32, got {list(query.shape)} {query.dtype}"
        )
    rows, heads, size = query.shape
    if size not in HEAD_SIZES:
        raise UnsupportedByKernel(
            f"query's head size must be a multiple of 8 from {HEAD_SIZES[0]} to "
            f"{HEAD_SIZES[-1]}, got {size}"
        )
    if plan.page_size not in PAGE_SIZES:
        raise UnsupportedByKernel(
            f"page_size must be from {PAGE_SIZES[0]} to {PAGE_SIZES[-1]}, got {plan.page_size}"
        )
    if plan.valid_pages is not None and not plan.has_kernels:
        raise UnsupportedByKernel(f"no kernel has a {plan.choice} choose pages by {plan.scorer}")
    if not 1 <= len(blocks) <= 2:
        raise UnsupportedByKernel(f"blocks must be one or two, got {len(blocks)}")
    for number, block in enumerate(blocks):
        _check_block(f"blocks[{number}]", block, query, plan)
    tokens = sum(block.keys.shape[2] for block in blocks)
    num_pages = sum(-(-block.keys.shape[2] // plan.page_size) for block in blocks)
    if num_pages > MAX_PAGES:
        raise UnsupportedByKernel(f"pages must be at most {MAX_PAGES} in all, got {num_pages}")
    scratch = rows * heads * max(num_pages, 2 * MAX_SPLITS * size)
    largest = max(scratch, rows * tokens, tokens * size)
    if largest > MAX_OFFSET:
        raise UnsupportedByKernel(
            f"query and blocks need offsets of at most {MAX_OFFSET}, got {largest}: "
            f"{rows} rows of {tokens} tokens"
        )
    _check_plan(query, plan, tokens, num_pages)


def largest_head(dtype: torch.dtype) -> int:
    """The largest head size for keys of a dtype; fp32 tiles of larger ones spill registers."""
    return 128 if dtype == torch.float32 else HEAD_SIZES[-1]


def _check_block(name: str, block: KVBlock, query: Tensor, plan: AttentionPlan) -> None:
    keys = block.keys
    if keys.dtype not in KERNEL_DTYPES:
        raise UnsupportedByKernel(f"{name}.keys must be fp32, bf16 or fp16, got {keys.dtype}")
    if query.shape[2] > largest_head(keys.dtype):
        raise UnsupportedByKernel(
            f"query's head size must be at most {largest_head(keys.dtype)} for {keys.dtype} keys, "
            f"got {query.shape[2]}"
        )
    if keys.dim() != 4 or keys.shape[3] != query.shape[2] or query.shape[1] % keys.shape[1]:
        raise KernelInputError(
            f"{name}.keys must be [N, Hkv, S, {query.shape[2]}] with Hkv dividing "
            f"{query.shape[1]}, got {list(keys.shape)}"
        )
    likewise = {"keys": keys, "values": block.values}
    wanted = {
        f"{name}.{part}": (some, tuple(keys.shape), keys.dtype) for part, some in likewise.items()
    }
    check_operands(wanted, query, contiguous=False)
    _check_layout(name, likewise)
    if plan.valid_pages is not None:
        _check_codes(name, block, query)
    sources = keys.shape[0] if block.sources is None else block.sources.shape[0]
    check_operands({f"{name}.sources": (block.sources, (sources,), torch.int64)}, query)
    if query.shape[0] % sources:
        raise KernelInputError(
            f"query must have a multiple of {name}'s {sources} groups of rows, "
            f"got {query.shape[0]} rows"
        )


def _check_codes(name: str, block: KVBlock, query: Tensor) -> None:
    """4-bit keys and their scales."""
    rows, heads, tokens, size = block.keys.shape
    octets = (rows, heads, -(-tokens // OCTET))
    if block.codes is None or block.scales is None:
        raise KernelInputError(f"{name} must have codes and scales where pages are scored")
    wanted = {
        f"{name}.codes": (block.codes, (*octets, size // 8, 8, 4), torch.uint8),
        f"{name}.scales": (block.scales, (*octets, 2, OCTET), torch.bfloat16),
    }
    check_operands(wanted, query, contiguous=False)
    _check_layout(name, {"codes": block.codes, "scales": block.scales})


def _check_layout(name: str, parts: dict[str, Tensor]) -> None:
    """Raise unless a head's lines, of a token or an octet, lie one after another, alike in all."""
    strides = set()
    for part, tensor in parts.items():
        (row, head, *_), line = tensor.stride(), prod(tensor.shape[3:])
        if not tensor[0, 0].is_contiguous() or row % line or head % line:
            raise KernelInputError(
                f"{name}.{part} must hold the lines of a head one after another, "
                f"got strides {tensor.stride()}"
            )
        strides.add((row // line, head // line))
    if len(strides) > 1:
        raise KernelInputError(f"{name}'s {' and '.join(parts)} must have the same strides")


def _check_plan(query: Tensor, plan: AttentionPlan, tokens: int, pages: int) -> None:
    rows = (query.shape[0],)
    check_operands(
        {
            "plan.valid_tokens": (plan.valid_tokens, (*rows, tokens), torch.bool),
            "plan.valid_pages": (plan.valid_pages, (*rows, pages), torch.bool),
            "plan.pages_kept": (plan.pages_kept, rows, torch.int64),
            "plan.tokens_per_page": (plan.tokens_per_page, (*rows, pages), torch.int64),
            "plan.floors": (plan.floors, rows, torch.float32),
        },
        query,
    )
