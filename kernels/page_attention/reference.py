"""Page-sparse attention of one new token per row, in plain PyTorch: the definition.

Quest (arXiv:2406.10774) cuts the KV cache into pages and bounds, from each page's
elementwise minimum and maximum key, the largest score any of its tokens can reach:
``Σ_d max(q_d·min_d, q_d·max_d)``. The best pages are attended to exactly. Instead, pages may be
scored by their attention mass as 4-bit keys give it, and chosen by the heads of a KV group
together (``AttentionPlan``).

Keys of a row may lie in two blocks: a prefix that several rows share, and the
row's own continuation. Their tokens and pages are numbered through, the prefix
first; who owns what is decided in ``sol_core/models/cache.py``. This file reads every key
and masks: it defines the result and saves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.key_codes import estimated_scores, page_log_mass

__all__ = [
    "AttentionPlan",
    "KVBlock",
    "decode_attention",
    "group_shares",
    "mass_outside",
    "page_bounds",
    "page_mass_outside",
    "page_scores",
    "select_pages",
]


@dataclass(frozen=True, slots=True)
class KVBlock:
    """Keys and values of N sequences, each read by R / N consecutive rows (or see sources).

    Attributes:
        keys, values: [N, Hkv, S, D], keys already rotated; S is a multiple of the page
            size in every block but a row's last.
        page_min, page_max: [N, Hkv, P, D] bounds of the keys of each page, in the keys'
            dtype (exact: a bound is one of the keys); None while no compressed step
            asked for them.
        codes, scales: 4-bit copies of the keys [N, Hkv, S / 8, …] in octets of tokens, rounded
            up (``kernels/key_codes``); None while no step asked for them.
        sources: [M] int64, the sequence that each R / M consecutive rows read instead;
            repeats are allowed and copy nothing in the CPU kernel.
    """

    keys: Tensor
    values: Tensor
    page_min: Tensor | None = None
    page_max: Tensor | None = None
    sources: Tensor | None = None
    codes: Tensor | None = None
    scales: Tensor | None = None

    def expanded(self) -> KVBlock:
        """The same without ``sources``: a sequence read by M groups is there M times."""
        if self.sources is None:
            return self
        low, high, codes, scales = (
            None if part is None else part[self.sources]
            for part in (self.page_min, self.page_max, self.codes, self.scales)
        )
        keys, values = self.keys[self.sources], self.values[self.sources]
        return KVBlock(keys, values, low, high, None, codes, scales)


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Tokens that each row may attend to, over the concatenated tokens and pages of its blocks.

    Attributes:
        page_size: tokens per page.
        valid_tokens: [R, S] bool, tokens the row may see; None means all.
        valid_pages: [R, P] bool, pages with such a token; None unless pages are selected.
        pages_kept: [R] int64, pages each row and head reads; None means all of them.
        tokens_per_page: [R, P] int64, how many such tokens; None unless it is observed
            (then ``valid_pages`` is there too).
        scorer: "quest" scores a page by the bounds of its keys, "int4" by the logarithm of its
            attention mass under 4-bit keys.
        choice: each query "head" chooses its pages, or the heads of a KV "group" choose together,
            by the mean of their shares of attention.
    """

    page_size: int
    valid_tokens: Tensor | None = None
    valid_pages: Tensor | None = None
    pages_kept: Tensor | None = None
    tokens_per_page: Tensor | None = None
    scorer: str = "quest"
    choice: str = "head"


def decode_attention(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> Tensor:
    """Attend one new token per row to the best pages of its keys.

    Args:
        query: [R, H, D] fp32, rotated and scaled; H % Hkv == 0.
        blocks: the row's keys in order; each must carry what the scorer reads if pages are
            selected.
        plan: what may be seen and how much of it is read.
    Returns: [R, H, D] fp32. Rows that keep every page get the bits of dense attention.
    """
    blocks = [block.expanded() for block in blocks]
    scores = torch.cat([_scores(query, block) for block in blocks], dim=-1)
    if plan.pages_kept is not None and plan.valid_pages is not None:
        found = _scores_of_pages(query, blocks, plan)
        if plan.choice == "group":
            found = group_shares(found, plan.valid_pages, blocks[0].keys.shape[1])
        pages = select_pages(found, plan.valid_pages, plan.pages_kept)
        pages = pages.repeat_interleave(query.shape[1] // pages.shape[1], dim=1)
        tokens = pages.repeat_interleave(plan.page_size, dim=-1)[..., : scores.shape[-1]]
        scores = scores.masked_fill(~tokens, -torch.inf)
    if plan.valid_tokens is not None:
        scores = scores.masked_fill(~plan.valid_tokens[:, None, :], -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    parts = weights.split([block.keys.shape[2] for block in blocks], dim=-1)
    mixed = _weighted_values(parts[0], blocks[0])
    for part, block in zip(parts[1:], blocks[1:], strict=True):
        mixed = mixed + _weighted_values(part, block)
    return mixed


def mass_outside(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, share: float
) -> Tensor:
    """``page_mass_outside`` of a decode step: [R, H] fp32; arguments as ``decode_attention``."""
    if plan.valid_pages is None or plan.tokens_per_page is None:
        raise ValueError("mass_outside needs a plan with valid_pages and tokens_per_page")
    scores = _scores_of_pages(query, [block.expanded() for block in blocks], plan)
    if plan.scorer == "int4":  # masses of whole pages: no token is to be counted again
        return page_mass_outside(scores, plan.valid_pages, plan.valid_pages.long(), share)
    return page_mass_outside(scores, plan.valid_pages, plan.tokens_per_page, share)


def group_shares(log_mass: Tensor, valid_pages: Tensor, num_kv_heads: int) -> Tensor:
    """Mean over the heads of each KV group of their softmax over pages.

    Args:
        log_mass: [R, H, P] fp32, logarithms of masses (or bounds, taken as such).
        valid_pages: [R, P] bool.
    Returns: [R, Hkv, P] fp32.
    """
    shares: Tensor = log_mass.masked_fill(~valid_pages[:, None, :], -torch.inf).softmax(-1)
    grouped: Tensor = shares.unflatten(1, (num_kv_heads, -1)).mean(2)
    return grouped


def page_bounds(keys: Tensor, valid: Tensor | None, page_size: int) -> tuple[Tensor, Tensor]:
    """Elementwise minimum and maximum key of each page.

    Args:
        keys: [N, Hkv, S, D]; the last page may be short.
        valid: [N, S] bool, tokens that count; None means all of them.
        page_size: tokens per page.
    Returns: two [N, Hkv, P, D] tensors in the keys' dtype, P = ceil(S / page_size); a
        page without a valid token is (+inf, −inf).
    """
    num_pages = -(-keys.shape[2] // page_size)
    padding = num_pages * page_size - keys.shape[2]
    if valid is None and padding == 0:
        low = high = keys
    else:
        if valid is None:
            valid = torch.ones(keys.shape[0], keys.shape[2], dtype=torch.bool, device=keys.device)
        keys = torch.nn.functional.pad(keys, (0, 0, 0, padding))
        unused = ~torch.nn.functional.pad(valid, (0, padding))[:, None, :, None]
        low = keys.masked_fill(unused, torch.inf)
        high = keys.masked_fill(unused, -torch.inf)
    return (
        low.unflatten(2, (num_pages, page_size)).amin(3),
        high.unflatten(2, (num_pages, page_size)).amax(3),
    )


def page_scores(query: Tensor, block: KVBlock) -> Tensor:
    """Quest's upper bound of the attention score within each page.

    For q_d ≥ 0 the larger of q_d·min_d and q_d·max_d is q_d·max_d, else q_d·min_d, so
    the bound is two matrix products.

    Args:
        query: [R, H, D] fp32, rotated; R is a multiple of the block's N.
    Returns: [R, H, P] fp32.
    """
    if block.page_min is None or block.page_max is None:
        raise ValueError("page_scores needs a block with page bounds")
    grouped = _group_rows(query, block.keys)
    # Bounds of unused pages are infinite, and 0 · inf is NaN: replace them, they are masked later.
    page_max = block.page_max.masked_fill(block.page_max.isinf(), 0.0).float()
    page_min = block.page_min.masked_fill(block.page_min.isinf(), 0.0).float()
    scores = grouped.clamp(min=0) @ page_max.mT + grouped.clamp(max=0) @ page_min.mT
    return _ungroup_rows(scores, query.shape[0])


def _scores_of_pages(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> Tensor:
    """[R, H, P] fp32 over the pages of all blocks, by the plan's scorer."""
    if plan.scorer == "quest":
        return torch.cat([page_scores(query, block) for block in blocks], dim=-1)
    found, start = [], 0
    for block in blocks:
        if block.codes is None or block.scales is None:
            raise ValueError("the int4 scorer needs blocks with codes and scales")
        scores = estimated_scores(_group_rows(query, block.keys), block.codes, block.scales)
        end = start + block.keys.shape[2]
        valid = None if plan.valid_tokens is None else plan.valid_tokens[:, start:end]
        scores = _ungroup_rows(scores, query.shape[0])[..., : end - start]
        found.append(page_log_mass(scores, valid, plan.page_size))
        start = end
    return torch.cat(found, dim=-1)


def select_pages(scores: Tensor, valid_pages: Tensor, pages_kept: Tensor) -> Tensor:
    """The highest-scoring pages of each row and head; ties go to the lowest page.

    Args:
        scores: [R, H, P] fp32.
        valid_pages: [R, P] bool, pages that hold a token the row may see.
        pages_kept: [R] int64, how many pages each row keeps.
    Returns: [R, H, P] bool with exactly ``min(pages_kept, valid pages)`` True per row and head.
    """
    scores = scores.masked_fill(~valid_pages[:, None, :], -torch.inf)
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    rank = torch.arange(scores.shape[-1], device=scores.device)
    chosen = (rank < pages_kept[:, None, None]).expand_as(scores)
    selected = torch.zeros_like(chosen).scatter(-1, order, chosen)
    return selected & valid_pages[:, None, :]


def page_mass_outside(
    scores: Tensor, valid_pages: Tensor, tokens_per_page: Tensor, share: float
) -> Tensor:
    """Return the attention mass that the heaviest pages leave over: a measure of its spread.

    A page weighs as if each of its tokens scored the page's bound. The heaviest
    ``ceil(share · P)`` of a row's P valid pages (at least one) are its best.

    Args:
        scores: [..., H, P] fp32, page bounds' scores, already scaled.
        valid_pages: [..., P] bool, at least one True per row.
        tokens_per_page: [..., P], tokens of each page that the row may see.
        share: of the valid pages, in (0, 1].
    Returns: [..., H] fp32 in [0, 1), the softmax mass outside the best pages.
    """
    weights = scores + tokens_per_page.clamp(min=1).log()[..., None, :]
    weights = weights.masked_fill(~valid_pages[..., None, :], -torch.inf)
    mass = torch.softmax(weights, dim=-1).sort(dim=-1, descending=True).values
    best = torch.ceil(valid_pages.sum(-1) * share - 1e-9).clamp(min=1)
    rank = torch.arange(scores.shape[-1], device=scores.device)
    return mass.masked_fill(rank < best[..., None, None], 0.0).sum(-1)


def _scores(query: Tensor, block: KVBlock) -> Tensor:
    """Dot products of each row's query with every key of its block.

    Args:
        query: [R, H, D] fp32, rotated and already scaled.
    Returns: [R, H, S] fp32.
    """
    scores = _group_rows(query, block.keys) @ block.keys.float().mT
    return _ungroup_rows(scores, query.shape[0])


def _weighted_values(weights: Tensor, block: KVBlock) -> Tensor:
    """Sum of the block's values under attention weights.

    Args:
        weights: [R, H, S] fp32.
    Returns: [R, H, D] fp32.
    """
    mixed = _group_rows(weights, block.values) @ block.values.float()
    return _ungroup_rows(mixed, weights.shape[0])


def _group_rows(rows: Tensor, keys: Tensor) -> Tensor:
    """[R, H, X] → [N, Hkv, (rows per block)·(heads per group), X]: one product per KV head."""
    num_blocks, num_kv_heads = keys.shape[:2]
    num_rows, num_heads, width = rows.shape
    if num_rows == num_blocks:
        return rows.reshape(num_blocks, num_kv_heads, num_heads // num_kv_heads, width)
    split = rows.reshape(
        num_blocks, num_rows // num_blocks, num_kv_heads, num_heads // num_kv_heads, width
    )
    return split.transpose(1, 2).flatten(2, 3)


def _ungroup_rows(grouped: Tensor, num_rows: int) -> Tensor:
    """Inverse of ``_group_rows``."""
    num_blocks, num_kv_heads, rows_and_heads, width = grouped.shape
    if num_rows == num_blocks:
        return grouped.reshape(num_rows, num_kv_heads * rows_and_heads, width)
    rows_per_block = num_rows // num_blocks
    split = grouped.reshape(
        num_blocks, num_kv_heads, rows_per_block, rows_and_heads // rows_per_block, width
    )
    return split.transpose(1, 2).reshape(num_rows, -1, width)
