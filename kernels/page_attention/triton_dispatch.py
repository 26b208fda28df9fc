"""Launches the Triton kernels of page-sparse attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.gpu.triton_support import KernelInputError, counters, launch, next_power_of_2
from kernels.key_codes import OCTET
from kernels.kv_blocks import KVBlock
from kernels.page_attention.reference import Attended, AttentionPlan, page_readers
from kernels.page_attention.triton_checks import MAX_PAGES, MAX_SPLITS, check_attention

# Programs wanted in flight, about two for each of an H100's 132 cores, and the tokens that
# are worth a program of their own: two turns of its loop.
TARGET_PROGRAMS = 264
TOKENS_PER_SPLIT = 64
_WEIGHED_AT_ONCE = 64  # tokens a weighing program takes
_JOINED_AT_ONCE = 8192  # numbers of parts that a program has in its registers


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Tiling into programs of the queries that read one block."""

    sources: int  # groups of rows that read one sequence each
    rows_per_source: int  # with the next: queries of one KV head and source
    heads_per_group: int
    block_m: int  # queries in a tile
    pages: int  # of this block; as the next three
    first_page: int  # over all blocks' numbering
    tokens: int
    first_token: int
    splits: int  # programs along the sequence

    @property
    def per_source(self) -> int:
        return -(-self.rows_per_source * self.heads_per_group // self.block_m)

    @property
    def total(self) -> int:
        return self.sources * self.per_source


def attend_with_triton(
    query: Tensor,
    blocks: Sequence[KVBlock],
    plan: AttentionPlan,
    best_fraction: float,
    dtype: torch.dtype = torch.float32,
    *,
    readers: bool = False,
) -> Attended:
    """``reference.attend``.

    Raises: UnsupportedByKernel; KernelInputError, also for a plan without pages where they are
        chosen or observed.
    """
    check_attention(query, blocks, plan)
    counted = plan.valid_pages is not None and plan.tokens_per_page is not None
    if not counted and (best_fraction > 0 or plan.selects):
        raise KernelInputError(
            "plan.valid_pages and plan.tokens_per_page are needed where pages are chosen or "
            f"observed, got None for a fraction of {best_fraction}"
        )
    attention = _Attention(query.contiguous(), blocks, plan, noting=readers)
    attended = attention.run(best_fraction, dtype)
    if readers and not plan.selects:
        return attended._replace(readers=page_readers(query, blocks, plan))
    return attended


class _Attention:
    """One call: buffers between its kernels, and the launches in order."""

    def __init__(
        self, query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, *, noting: bool
    ) -> None:
        self.query, self.blocks, self.plan = query, blocks, plan
        self.unused = query.view(torch.int32)  # for an argument that no kernel will read
        self.num_rows, self.num_heads, self.head_size = query.shape
        self.padded_head = max(64, next_power_of_2(self.head_size))
        self.num_kv_heads = blocks[0].keys.shape[1]
        self.tiles = self._cut()
        last = self.tiles[-1]
        self.num_pages = last.first_page + last.pages
        groups = self.num_rows, self.num_kv_heads
        self.noting = noting
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
        for number in range(len(self.blocks)):
            self._attend(number, buffers, splits)
        if not selects:
            return Attended(mixed, None, outside)
        noted = self.readings.sum(1, dtype=torch.uint8) if self.noting else None
        return Attended(mixed, self.tokens_read, outside, noted)

    def _cut(self) -> list[_Tiles]:
        cut: list[_Tiles] = []
        page, token = 0, 0
        for block in self.blocks:
            sources = block.keys.shape[0] if block.sources is None else block.sources.shape[0]
            rows, heads = self.num_rows // sources, self.num_heads // self.num_kv_heads
            # Larger tiles would spill registers.
            most = 16 if block.keys.dtype == torch.float32 else min(32, 4096 // self.padded_head)
            block_m = min(most, max(16, next_power_of_2(rows * heads)))
            tokens = block.keys.shape[2]
            pages = -(-tokens // self.plan.page_size)
            programs = sources * -(-rows * heads // block_m) * self.num_kv_heads
            splits = min(
                -(-TARGET_PROGRAMS // programs), tokens // TOKENS_PER_SPLIT, MAX_SPLITS, pages
            )
            cut.append(
                _Tiles(sources, rows, heads, block_m, pages, page, tokens, token, max(1, splits))
            )
            page, token = page + pages, token + tokens
        return cut

    def _weighed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Every page's log mass by 4-bit keys as ordered bits, 0 if not valid, [R, H, P]; keys that
        KV groups weigh pages by [R, Hkv, P], and from which on they read one [R, Hkv]; int32.

        The last two are undefined unless pages are chosen.
        """
        from kernels.page_attention.triton_weighing import weigh_pages

        plan, groups = self.plan, (self.num_rows, self.num_kv_heads)
        assert plan.floors is not None or not plan.selects
        shape = self.num_rows, self.num_heads, self.num_pages
        page_keys = self.query.new_empty(shape, dtype=torch.int32)
        group_keys = page_keys.new_empty((*groups, self.num_pages))
        thresholds = page_keys.new_empty(groups)
        members = self.num_heads // self.num_kv_heads
        slots = max(4, next_power_of_2(plan.page_size))
        at_once, octet = _WEIGHED_AT_ONCE // slots, 4 * self.head_size
        for block, tiles in zip(self.blocks, self.tiles, strict=True):
            assert block.codes is not None
            row, head, *_ = block.codes.stride()
            launch(
                weigh_pages,
                (tiles.total, self.num_kv_heads, -(-tiles.pages // at_once)),
                {
                    **self._common(block, tiles),
                    "codes": block.codes.view(torch.int32), "scales": block.scales,
                    "page_keys": page_keys, "group_keys": group_keys,
                    "pages_kept": self.tokens_read if plan.pages_kept is None else plan.pages_kept,
                    "floors": self.query if plan.floors is None else plan.floors,
                    "tokens_per_page": plan.tokens_per_page, "thresholds": thresholds,
                    "tokens_read": self.tokens_read, "readings": self.readings,
                    "counters": counters(self.query, tiles.sources * self.num_kv_heads),
                    "row_lines": row // octet, "head_lines": head // octet, "pages": tiles.pages,
                    "choosing": int(plan.selects and tiles is self.tiles[-1]),
                    "noting": int(self.noting),
                },
                {"BLOCK_M": tiles.block_m, "PAGES": at_once, "SLOTS": slots,
                 "WHOLE": slots == plan.page_size and slots % OCTET == 0,
                 "HALF": self.padded_head // 2, "MEMBERS": next_power_of_2(members)},
                {"num_warps": 4, "num_stages": 1},
            )  # fmt: skip
        return page_keys, group_keys, thresholds

    def _observe(self, page_keys: Tensor, outside: Tensor, best_fraction: float) -> None:
        """Fill ``outside`` [R, H], a program each, which sees all pages."""
        from kernels.page_attention.triton_choice import mass_outside_pages

        warps = {512: 4, 4096: 8, MAX_PAGES: 16}
        block = next(size for size in warps if size >= self.num_pages)
        launch(
            mass_outside_pages,
            (outside.numel(),),
            {"page_keys": page_keys, "outside": outside, "best_fraction": best_fraction,
             "num_pages": self.num_pages},
            {"BLOCK_P": block},
            {"num_warps": warps[block], "num_stages": 1},
        )  # fmt: skip

    def _attend(self, number: int, buffers: dict[str, Tensor], all_splits: int) -> None:
        """Launch ``attend_pages`` on one block."""
        from kernels.page_attention.triton_kernel import attend_pages

        block, tiles = self.blocks[number], self.tiles[number]
        grid = (tiles.total, self.num_kv_heads, tiles.splits)
        width = -(-tiles.pages // tiles.splits)
        row_stride, head_stride, *_ = block.keys.stride()
        numbers = self.padded_head * tiles.block_m
        launch(
            attend_pages,
            grid,
            {
                **self._common(block, tiles), "keys": block.keys, "values": block.values,
                "page_list": self.unused.new_empty((*grid, width * self.plan.selects)),
                **buffers, "counters": counters(self.query, tiles.total * self.num_kv_heads),
                "row_lines": row_stride // self.head_size,
                "head_lines": head_stride // self.head_size, "list_width": width,
                "first_split": 0 if number == 0 else self.tiles[0].splits,
                "all_splits": all_splits, "selecting": int(self.plan.selects),
                "joining": int(number == len(self.blocks) - 1),
            },
            {"BLOCK_M": tiles.block_m, "BLOCK_N": 32, "HEAD": self.padded_head,
             "SPLITS": max(1, _JOINED_AT_ONCE // numbers)},
            {"num_warps": 4 if numbers <= 1024 else 8, "num_stages": 2},
        )  # fmt: skip

    def _common(self, block: KVBlock, tiles: _Tiles) -> dict[str, Any]:
        """The first arguments of the kernels that read a block, in their order."""
        mask, sources = self.plan.valid_tokens, block.sources
        return {
            "query": self.query,
            "sources": self.query.view(torch.int64) if sources is None else sources,
            "valid_tokens": (self.query if mask is None else mask).view(torch.uint8),
            "heads_per_group": tiles.heads_per_group, "rows_per_source": tiles.rows_per_source,
            "tiles": tiles.per_source, "tokens": tiles.tokens, "page_size": self.plan.page_size,
            "head_size": self.head_size, "first_page": tiles.first_page,
            "num_pages": self.num_pages, "first_token": tiles.first_token,
            "mask_width": 0 if mask is None else mask.shape[1], "masked": int(mask is not None),
            "has_sources": int(sources is not None),
        }  # fmt: skip
