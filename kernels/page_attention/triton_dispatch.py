"""Checks and launches of the Triton kernels of page-sparse attention; a refusal names its cause."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels.gpu import triton_support as gpu
from kernels.key_codes import OCTET
from kernels.kv_blocks import KVBlock
from kernels.page_attention.reference import Attended, AttentionPlan

HEAD_SIZES = range(16, 257, 8)
PAGE_SIZES = range(1, 65)
MAX_PAGES = 16384  # one program ranks all pages of a head
MAX_SPLITS = 64
MAX_OFFSET = 2**31 - 1  # int32 offsets
_HEADS = f"query's head size must be a multiple of 8 from {HEAD_SIZES[0]} to {HEAD_SIZES[-1]}"
_PAGES = f"page_size must be from {PAGE_SIZES[0]} to {PAGE_SIZES[-1]}"
# Programs wanted in flight, about two for each of an H100's 132 cores, and the tokens that
# are worth a program of their own: two turns of its loop.
TARGET_PROGRAMS = 264
TOKENS_PER_SPLIT = 64
_WEIGHED_AT_ONCE = 64  # tokens a weighing program takes
_JOINED_AT_ONCE = 8192  # numbers of parts that a program has in its registers
_OBSERVING_WARPS = {512: 4, 4096: 8, MAX_PAGES: 16}  # of a program that sees so many pages


class _Tiles(NamedTuple):
    """Tiling into programs of the queries that read one block."""

    block: KVBlock
    sources: int  # groups of rows that read one sequence each
    total: int
    block_m: int  # queries in a tile
    pages: int
    splits: int  # programs along the sequence
    first_split: int  # over all blocks' numbering
    arguments: dict[str, Any]  # the first of the kernels that read a block, in their order


def attend_with_triton(
    query: Tensor,
    blocks: Sequence[KVBlock],
    plan: AttentionPlan,
    best_fraction: float,
    dtype: torch.dtype = torch.float32,
    *,
    readers: bool = False,
) -> Attended:
    """``reference.attend``, on request with ``page_readers`` where pages are chosen.

    Raises: UnsupportedByKernel; KernelInputError, also for a plan without pages where they are
        chosen or observed.
    """
    check_attention(query, blocks, plan)
    counted = plan.valid_pages is not None and plan.tokens_per_page is not None
    if not counted and (best_fraction > 0 or plan.selects):
        raise gpu.KernelInputError(
            "plan.valid_pages and plan.tokens_per_page are needed where pages are chosen or "
            f"observed, got None for a fraction of {best_fraction}"
        )
    return _Attention(query.contiguous(), blocks, plan, noting=readers).run(best_fraction, dtype)


class _Attention:
    """One call: buffers between its kernels, and the launches in order."""

    def __init__(
        self, query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, *, noting: bool
    ) -> None:
        self.query, self.plan, self.noting = query, plan, noting
        self.unused = query.view(torch.int32)  # for an argument that no kernel will read
        self.num_rows, self.num_heads, self.head_size = query.shape
        self.padded_head = max(64, gpu.next_power_of_2(self.head_size))
        self.num_kv_heads = blocks[0].keys.shape[1]
        self.num_pages = sum(-(-block.keys.shape[2] // plan.page_size) for block in blocks)
        self.tiles = self._cut(blocks)
        groups = self.num_rows, self.num_kv_heads
        self.tokens_read = query.new_empty(groups, dtype=torch.int64)
        self.readings = query.new_empty((*groups, self.num_pages * noting), dtype=torch.uint8)

    def run(self, best_fraction: float, dtype: torch.dtype) -> Attended:
        query, selects = self.query, self.plan.selects
        outside = query.new_empty(query.shape[:2])
        group_keys = thresholds = self.unused
        if selects or best_fraction > 0:
            page_keys, group_keys, thresholds = self._weighed()
            if best_fraction > 0:
                self._observe(page_keys, outside, best_fraction)
        splits = sum(tiles.splits for tiles in self.tiles)
        shape = (*query.shape[:2], splits * (splits > 1))
        mixed = torch.empty_like(query, dtype=dtype)
        buffers = {
            "page_keys": group_keys, "thresholds": thresholds,
            "parts": query.new_empty((*shape, self.head_size)), "tops": query.new_empty(shape),
            "sums": query.new_empty(shape), "mixed": mixed,
        }  # fmt: skip
        for tiles in self.tiles:
            self._attend(tiles, buffers, splits)
        if not selects:
            return Attended(mixed, None, outside)
        noted = self.readings.sum(1, dtype=torch.uint8) if self.noting else None
        return Attended(mixed, self.tokens_read, outside, noted)

    def _cut(self, blocks: Sequence[KVBlock]) -> list[_Tiles]:
        cut: list[_Tiles] = []
        page = token = split = 0
        mask, heads = self.plan.valid_tokens, self.num_heads // self.num_kv_heads
        for block in blocks:
            sources = block.keys.shape[0] if block.sources is None else block.sources.shape[0]
            rows, tokens = self.num_rows // sources, block.keys.shape[2]
            # Larger tiles would spill registers.
            most = 16 if block.keys.dtype == torch.float32 else min(32, 4096 // self.padded_head)
            block_m = min(most, max(16, gpu.next_power_of_2(rows * heads)))
            per_source, pages = -(-rows * heads // block_m), -(-tokens // self.plan.page_size)
            wanted = -(-TARGET_PROGRAMS // (sources * per_source * self.num_kv_heads))
            splits = max(1, min(wanted, tokens // TOKENS_PER_SPLIT, MAX_SPLITS, pages))
            arguments = {
                "query": self.query,
                "sources": self.query.view(torch.int64) if block.sources is None else block.sources,
                "valid_tokens": (self.query if mask is None else mask).view(torch.uint8),
                "heads_per_group": heads, "rows_per_source": rows, "tiles": per_source,
                "tokens": tokens, "page_size": self.plan.page_size, "head_size": self.head_size,
                "first_page": page, "num_pages": self.num_pages, "first_token": token,
                "mask_width": 0 if mask is None else mask.shape[1], "masked": int(mask is not None),
                "has_sources": int(block.sources is not None),
            }  # fmt: skip
            sizes = sources, sources * per_source, block_m, pages, splits, split
            cut.append(_Tiles(block, *sizes, arguments))
            page, token, split = page + pages, token + tokens, split + splits
        return cut

    def _weighed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Every page's log mass by 4-bit keys as ordered bits, 0 if not valid, [R, H, P]; keys that
        KV groups weigh pages by [R, Hkv, P], and from which on they read one [R, Hkv]; int32.

        The last two are undefined unless pages are chosen.
        """
        from kernels.page_attention.triton_weighing import weigh_pages

        plan, groups = self.plan, (self.num_rows, self.num_kv_heads)
        assert plan.floors is not None or not plan.selects
        page_keys = self.unused.new_empty((self.num_rows, self.num_heads, self.num_pages))
        group_keys = page_keys.new_empty((*groups, self.num_pages))
        thresholds = page_keys.new_empty(groups)
        members = gpu.next_power_of_2(self.num_heads // self.num_kv_heads)
        slots = max(4, gpu.next_power_of_2(plan.page_size))
        at_once, octet = _WEIGHED_AT_ONCE // slots, 4 * self.head_size
        for tiles in self.tiles:
            codes = tiles.block.codes
            assert codes is not None
            gpu.launch(
                weigh_pages,
                (tiles.total, self.num_kv_heads, -(-tiles.pages // at_once)),
                {
                    **tiles.arguments,
                    "codes": codes.view(torch.int32), "scales": tiles.block.scales,
                    "page_keys": page_keys, "group_keys": group_keys,
                    "pages_kept": self.tokens_read if plan.pages_kept is None else plan.pages_kept,
                    "floors": self.query if plan.floors is None else plan.floors,
                    "tokens_per_page": plan.tokens_per_page, "thresholds": thresholds,
                    "tokens_read": self.tokens_read, "readings": self.readings,
                    "counters": gpu.counters(self.query, tiles.sources * self.num_kv_heads),
                    "row_lines": codes.stride(0) // octet, "head_lines": codes.stride(1) // octet,
                    "pages": tiles.pages,
                    "choosing": int(plan.selects and tiles is self.tiles[-1]),
                    "noting": int(self.noting),
                },
                {"BLOCK_M": tiles.block_m, "PAGES": at_once, "SLOTS": slots,
                 "WHOLE": slots == plan.page_size and slots % OCTET == 0,
                 "HALF": self.padded_head // 2, "MEMBERS": members},
            )  # fmt: skip
        return page_keys, group_keys, thresholds

    def _observe(self, page_keys: Tensor, outside: Tensor, best_fraction: float) -> None:
        """Fill ``outside`` [R, H], a program each, which sees all pages."""
        from kernels.page_attention.triton_weighing import mass_outside_pages

        block = next(size for size in _OBSERVING_WARPS if size >= self.num_pages)
        given = {"page_keys": page_keys, "outside": outside, "best_fraction": best_fraction}
        given["num_pages"] = self.num_pages
        warps = _OBSERVING_WARPS[block]
        gpu.launch(mass_outside_pages, (outside.numel(),), given, {"BLOCK_P": block}, warps)

    def _attend(self, tiles: _Tiles, buffers: dict[str, Tensor], all_splits: int) -> None:
        """Launch ``attend_pages`` on one block."""
        from kernels.page_attention.triton_kernel import attend_pages

        keys, size = tiles.block.keys, self.head_size
        grid = (tiles.total, self.num_kv_heads, tiles.splits)
        width, numbers = -(-tiles.pages // tiles.splits), self.padded_head * tiles.block_m
        gpu.launch(
            attend_pages,
            grid,
            {
                **tiles.arguments, "keys": keys, "values": tiles.block.values,
                "page_list": self.unused.new_empty((*grid, width * self.plan.selects)),
                **buffers, "counters": gpu.counters(self.query, tiles.total * self.num_kv_heads),
                "row_lines": keys.stride(0) // size, "head_lines": keys.stride(1) // size,
                "list_width": width, "first_split": tiles.first_split, "all_splits": all_splits,
                "selecting": int(self.plan.selects), "joining": int(tiles is self.tiles[-1]),
            },
            {"BLOCK_M": tiles.block_m, "BLOCK_N": 32, "HEAD": self.padded_head,
             "SPLITS": max(1, _JOINED_AT_ONCE // numbers)},
            num_warps=4 if numbers <= 1024 else 8,
            num_stages=2,
        )  # fmt: skip


def check_attention(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> None:
    """Raise UnsupportedByKernel or KernelInputError, naming the argument, for what is refused."""
    is_step = query.dim() == 3 and query.dtype == torch.float32
    gpu.require(is_step, "query must be [R, H, D] float32", query)
    rows, heads, size = query.shape
    gpu.require(size in HEAD_SIZES, _HEADS, size)
    gpu.require(plan.page_size in PAGE_SIZES, _PAGES, plan.page_size)
    if plan.valid_pages is not None and not plan.has_kernels:
        raise gpu.UnsupportedByKernel(
            f"no kernel has a {plan.choice} choose pages by {plan.scorer}"
        )
    gpu.require(1 <= len(blocks) <= 2, "blocks must be one or two", len(blocks))
    for number, block in enumerate(blocks):
        _check_block(f"blocks[{number}]", block, query, plan)
    tokens = sum(block.keys.shape[2] for block in blocks)
    pages = sum(-(-block.keys.shape[2] // plan.page_size) for block in blocks)
    gpu.require(pages <= MAX_PAGES, f"pages must be at most {MAX_PAGES} in all", pages)
    largest = max(rows * heads * max(pages, 2 * MAX_SPLITS * size), rows * tokens, tokens * size)
    if largest > MAX_OFFSET:
        raise gpu.UnsupportedByKernel(
            f"query and blocks need offsets of at most {MAX_OFFSET}, got {largest}: "
            f"{rows} rows of {tokens} tokens"
        )
    gpu.check_operands(
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
    keys, dtype, (rows, heads, size) = block.keys, block.keys.dtype, query.shape
    gpu.require(dtype in gpu.KERNEL_DTYPES, f"{name}.keys must be fp32, bf16 or fp16", dtype)
    most, shape = largest_head(dtype), tuple(keys.shape)
    gpu.require(size <= most, f"query's head size must be at most {most} for {dtype} keys", size)
    if len(shape) != 4 or shape[3] != size or heads % shape[1]:
        raise gpu.KernelInputError(
            f"{name}.keys must be [N, Hkv, S, {size}] with Hkv dividing {heads}, got {list(shape)}"
        )
    _check_lines(name, query, keys=(keys, shape, dtype), values=(block.values, shape, dtype))
    if plan.valid_pages is not None:
        if block.codes is None or block.scales is None:
            raise gpu.KernelInputError(f"{name} must have codes and scales where pages are scored")
        octets = (*shape[:2], -(-shape[2] // OCTET))
        codes = block.codes, (*octets, size // 8, 8, 4), torch.uint8
        scales = block.scales, (*octets, 2, OCTET), torch.bfloat16
        _check_lines(name, query, codes=codes, scales=scales)
    sources = shape[0] if block.sources is None else block.sources.shape[0]
    gpu.check_operands({f"{name}.sources": (block.sources, (sources,), torch.int64)}, query)
    if rows % sources:
        raise gpu.KernelInputError(
            f"query must have a multiple of {name}'s {sources} groups of rows, got {rows} rows"
        )


def _check_lines(
    name: str, query: Tensor, **wanted: tuple[Tensor, tuple[int, ...], torch.dtype]
) -> None:
    """Raise unless tensors are as wanted, and a head's lines, of a token or an octet, lie one after
    another, alike in all."""
    operands = {f"{name}.{part}": operand for part, operand in wanted.items()}
    gpu.check_operands(operands, query, contiguous=False)
    strides = set()
    for part, (tensor, *_) in wanted.items():
        (row, head, *_), line = tensor.stride(), prod(tensor.shape[3:])
        if not tensor[0, 0].is_contiguous() or row % line or head % line:
            raise gpu.KernelInputError(
                f"{name}.{part} must hold the lines of a head one after another, "
                f"got strides {tensor.stride()}"
            )
        strides.add((row // line, head // line))
    if len(strides) > 1:
        raise gpu.KernelInputError(f"{name}'s {' and '.join(wanted)} must have the same strides")
