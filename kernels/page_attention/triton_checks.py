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
    require,
)
from kernels.key_codes import OCTET
from kernels.kv_blocks import KVBlock
from kernels.page_attention.reference import AttentionPlan

HEAD_SIZES = range(16, 257, 8)
PAGE_SIZES = range(1, 65)
MAX_PAGES = 16384  # one program ranks all pages of a head
MAX_SPLITS = 64
MAX_OFFSET = 2**31 - 1  # int32 offsets
_HEADS = f"query's head size must be a multiple of 8 from {HEAD_SIZES[0]} to {HEAD_SIZES[-1]}"
_PAGES = f"page_size must be from {PAGE_SIZES[0]} to {PAGE_SIZES[-1]}"


def check_attention(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> None:
    """Raise UnsupportedByKernel or KernelInputError, naming the argument, for what is refused."""
    is_step = query.dim() == 3 and query.dtype == torch.float32
    require(is_step, "query must be [R, H, D] float32", query)
    rows, heads, size = query.shape
    require(size in HEAD_SIZES, _HEADS, size)
    require(plan.page_size in PAGE_SIZES, _PAGES, plan.page_size)
    if plan.valid_pages is not None and not plan.has_kernels:
        raise UnsupportedByKernel(f"no kernel has a {plan.choice} choose pages by {plan.scorer}")
    require(1 <= len(blocks) <= 2, "blocks must be one or two", len(blocks))
    for number, block in enumerate(blocks):
        _check_block(f"blocks[{number}]", block, query, plan)
    tokens = sum(block.keys.shape[2] for block in blocks)
    pages = sum(-(-block.keys.shape[2] // plan.page_size) for block in blocks)
    require(pages <= MAX_PAGES, f"pages must be at most {MAX_PAGES} in all", pages)
    largest = max(rows * heads * max(pages, 2 * MAX_SPLITS * size), rows * tokens, tokens * size)
    if largest > MAX_OFFSET:
        raise UnsupportedByKernel(
            f"query and blocks need offsets of at most {MAX_OFFSET}, got {largest}: "
            f"{rows} rows of {tokens} tokens"
        )
    check_operands(
        {
            "plan.valid_tokens": (plan.valid_tokens, (rows, tokens), torch.bool),
            "plan.valid_pages": (plan.valid_pages, (rows, pages), torch.bool),
            "plan.pages_kept": (plan.pages_kept, (rows,), torch.int64),
            "plan.tokens_per_page": (plan.tokens_per_page, (rows, pages), torch.int64),
            "plan.floors": (plan.floors, (rows,), torch.float32),
        },
        query,
    )


def largest_head(dtype: torch.dtype) -> int:
    """The largest head size for keys of a dtype; fp32 tiles of larger ones spill registers."""
    return 128 if dtype == torch.float32 else HEAD_SIZES[-1]


def _check_block(name: str, block: KVBlock, query: Tensor, plan: AttentionPlan) -> None:
    keys, (rows, heads, size) = block.keys, query.shape
    require(keys.dtype in KERNEL_DTYPES, f"{name}.keys must be fp32, bf16 or fp16", keys.dtype)
    most = largest_head(keys.dtype)
    require(size <= most, f"query's head size must be at most {most} for {keys.dtype} keys", size)
    shape = tuple(keys.shape)
    if len(shape) != 4 or shape[3] != size or heads % shape[1]:
        raise KernelInputError(
            f"{name}.keys must be [N, Hkv, S, {size}] with Hkv dividing {heads}, got {list(shape)}"
        )
    dtype = keys.dtype
    _check_lines(name, query, keys=(keys, shape, dtype), values=(block.values, shape, dtype))
    if plan.valid_pages is not None:
        if block.codes is None or block.scales is None:
            raise KernelInputError(f"{name} must have codes and scales where pages are scored")
        octets = (*shape[:2], -(-shape[2] // OCTET))
        codes = block.codes, (*octets, size // 8, 8, 4), torch.uint8
        scales = block.scales, (*octets, 2, OCTET), torch.bfloat16
        _check_lines(name, query, codes=codes, scales=scales)
    sources = shape[0] if block.sources is None else block.sources.shape[0]
    check_operands({f"{name}.sources": (block.sources, (sources,), torch.int64)}, query)
    if rows % sources:
        raise KernelInputError(
            f"query must have a multiple of {name}'s {sources} groups of rows, got {rows} rows"
        )


def _check_lines(
    name: str, query: Tensor, **wanted: tuple[Tensor, tuple[int, ...], torch.dtype]
) -> None:
    """Raise unless tensors are as wanted, and a head's lines, of a token or an octet, lie one after
    another, alike in all."""
    operands = {f"{name}.{part}": operand for part, operand in wanted.items()}
    check_operands(operands, query, contiguous=False)
    strides = set()
    for part, (tensor, *_) in wanted.items():
        (row, head, *_), line = tensor.stride(), prod(tensor.shape[3:])
        if not tensor[0, 0].is_contiguous() or row % line or head % line:
            raise KernelInputError(
                f"{name}.{part} must hold the lines of a head one after another, "
                f"got strides {tensor.stride()}"
            )
        strides.add((row // line, head // line))
    if len(strides) > 1:
        raise KernelInputError(f"{name}'s {' and '.join(wanted)} must have the same strides")
