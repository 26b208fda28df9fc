"""Keys and values of several sequences, and products of many rows' queries with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class KVBlock:
    """Keys and values of N sequences, each read by R / N consecutive rows (or see sources)."""

    keys: Tensor  # [N, Hkv, S, D], rotated; S is a multiple of the page size but in a row's last
    values: Tensor  # likewise
    # [M] int64, the sequence that each R / M consecutive rows read instead; repeats are allowed and
    # copy nothing in the CPU kernel.
    sources: Tensor | None = None
    # 4-bit copies of the keys [N, Hkv, S / 8, …] in octets of tokens, rounded up, and their scales
    # (``kernels/key_codes``); None before a step needs them.
    codes: Tensor | None = None
    scales: Tensor | None = None

    def expanded(self) -> KVBlock:
        """This block without ``sources``: a sequence read by M groups is there M times."""
        if self.sources is None:
            return self
        codes, scales = (
            None if part is None else part[self.sources] for part in (self.codes, self.scales)
        )
        return KVBlock(self.keys[self.sources], self.values[self.sources], None, codes, scales)


def token_scores(query: Tensor, block: KVBlock) -> Tensor:
    """Dot products of each row's query [R, H, D] fp32, rotated and scaled, with every key of its
    block of S tokens: [R, H, S] fp32."""
    scores = group_rows(query, block.keys) @ block.keys.float().mT
    return ungroup_rows(scores, query.shape[0])


def group_rows(rows: Tensor, keys: Tensor) -> Tensor:
    """[R, H, X] → [N, Hkv, (rows per block)·(heads per group), X]: one product per KV head."""
    num_blocks, num_kv_heads = keys.shape[:2]
    num_rows, num_heads, width = rows.shape
    split = rows.reshape(
        num_blocks, num_rows // num_blocks, num_kv_heads, num_heads // num_kv_heads, width
    )
    return split.transpose(1, 2).flatten(2, 3)


def ungroup_rows(grouped: Tensor, num_rows: int) -> Tensor:
    """Inverse of ``group_rows``."""
    num_blocks, num_kv_heads, rows_and_heads, width = grouped.shape
    rows_per_block = num_rows // num_blocks
    heads = rows_and_heads // rows_per_block
    split = grouped.reshape(num_blocks, num_kv_heads, rows_per_block, heads, width)
    return split.transpose(1, 2).reshape(num_rows, num_kv_heads * heads, width)


def is_packed(tensor: Tensor) -> bool:
    """Tokens one after another within a head, as lines of D numbers."""
    row, head, token, channel = tensor.stride()
    size = tensor.shape[3]
    return channel == 1 and token == size and row % size == 0 and head % size == 0


def lines_of(tensor: Tensor) -> Any:
    """All memory from the first token to the last as numpy [X, D], bf16 as uint16."""
    from kernels.cpu import as_array  # what only lists names of parts needs no torch

    rows, heads, tokens, size = tensor.shape
    row, head, _, _ = tensor.stride()
    count = ((rows - 1) * row + (heads - 1) * head) // size + tokens
    return as_array(tensor.as_strided((count, size), (size, 1)))
