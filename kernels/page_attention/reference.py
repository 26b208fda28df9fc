"""Page-sparse attention of one new token per row, in plain PyTorch: the definition.

As in Quest (arXiv:2406.10774) the KV cache is cut into pages, these are scored
(``kernels/page_scorers``), and the best are attended to exactly. Every head chooses its own, or
the heads of a KV group choose together (``AttentionPlan``).

Keys of a row may lie in two blocks: a prefix that several rows share, and the
row's own continuation. Their tokens and pages are numbered through, the prefix
first; who owns what is decided in ``sol_core/models/cache.py``. This file reads every key
and masks: it defines the result and saves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.key_codes import OCTET, encode_keys
from kernels.kv_blocks import KVBlock, group_rows, token_scores, ungroup_rows
from kernels.page_scorers import QUEST, PageScorer


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Tokens that each row may attend to, over the concatenated tokens and pages of its blocks."""

    page_size: int  # tokens per page
    valid_tokens: Tensor | None = None  # [R, S] bool, tokens the row may see; None means all
    valid_pages: Tensor | None = None  # [R, P] bool, pages with one; None unless pages are selected
    pages_kept: Tensor | None = None  # [R] int64, pages each row and head reads; None means all
    # [R, P] int64, how many such tokens; None unless pages are selected or observed (then
    # ``valid_pages`` is there too).
    tokens_per_page: Tensor | None = None
    scorer: PageScorer = QUEST  # what pages are scored by
    # Each query "head" chooses its ``pages_kept`` best pages, or the heads of a KV "group" choose
    # together those that they need, by the mean of their fractions of attention.
    choice: str = "head"
    # [R] fp32: groups of rows that do not keep all read the pages whose ``page_need`` reaches this,
    # however many, and the best one. None where heads choose.
    floors: Tensor | None = None
    # [3, R] int64, ``valid_tokens`` in numbers, without which no kernel on a CPU takes masked rows:
    # tokens of the row in the first of two blocks, those in the last one before the newest, and the
    # first that it sees, counted through both.
    spans: Tensor | None = None

    @property
    def selects(self) -> bool:
        """Return whether pages are chosen; else all are read."""
        return self.pages_kept is not None and self.valid_pages is not None

    @property
    def has_kernels(self) -> bool:
        """Return whether kernels choose pages so.

        Not asked of what this step chooses or observes: its sums would be others.
        """
        return self.choice == self.scorer.compiled_choice


class Attended(NamedTuple):
    """Attention of one new token per row."""

    mixed: Tensor  # [R, H, D]
    # [R, Hkv] int64, keys and values that each KV head read, those that any of its query heads
    # chose; or [R, 1], their sum. None where no pages are chosen: all.
    tokens_read: Tensor | None
    outside: Tensor  # [R, H] fp32, see ``mass_outside``; undefined unless asked for
    readers: Tensor | None = None  # see ``page_readers``; None unless asked for
    page_mass: Tensor | None = None  # see ``mass_by_page``; None unless asked for


def soft_cap(scores: Tensor, cap: float) -> Tensor:
    """``cap · tanh(scores / cap)`` (Gemma 2, arXiv:2408.00118): any shape → the same."""
    return torch.tanh(scores / cap) * cap


def attend(
    query: Tensor,
    blocks: Sequence[KVBlock],
    plan: AttentionPlan,
    best_fraction: float = 0.0,
    cap: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Attended:
    """Attend one new token per row to the best pages of its keys.

    Args:
        query: [R, H, D] fp32, rotated and scaled; H % Hkv == 0.
        blocks: the row's keys in order; each must carry what the scorer reads if pages are
            selected.
        plan: what may be seen and how much of it is read.
        best_fraction: of the best pages, for the mass outside; 0 when it is not asked for.
        cap: ``soft_cap`` of the scores; pages are scored without, as it keeps their order.
        dtype: of what is mixed, which is summed in fp32.
    Returns: Attended. Rows that keep every page get the bits of dense attention.
    """
    blocks = [block.expanded() for block in blocks]
    if query.shape[0] == 1:  # a row's sums do not depend on where a shared prefix ends
        blocks = _joined(blocks)
    outside = query.new_empty(0)
    if best_fraction > 0:
        outside = mass_outside(query, blocks, plan, best_fraction)
    scores = _scores_read(query, blocks, plan, cap)
    read = None
    if plan.selects:
        groups = scores.isneginf().logical_not_().unflatten(1, (blocks[0].keys.shape[1], -1))
        read = groups.any(2).sum(2)
    weights = torch.softmax(scores, dim=-1)
    parts = weights.split([block.keys.shape[2] for block in blocks], dim=-1)
    mixed = _weighted_values(parts[0], blocks[0])
    for part, block in zip(parts[1:], blocks[1:], strict=True):
        mixed = mixed + _weighted_values(part, block)
    return Attended(mixed.to(dtype), read, outside)


def mass_by_page(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, cap: float | None = None
) -> Tensor:
    """Fraction of each head's attention in a decode step that every page gets; 0: not read.

    Args: as ``attend``.
    Returns: [R, H, P] fp32, over the pages of all blocks.
    """
    blocks = [block.expanded() for block in blocks]
    weights = torch.softmax(_scores_read(query, blocks, plan, cap), dim=-1)
    return _by_page(weights, plan.page_size)


def mass_of_pages(
    query: Tensor, keys: Tensor, pages: Tensor, page_size: int, first_seen: int
) -> Tensor:
    """``mass_by_page`` of one row whose pages are chosen already.

    Args:
        query: [H, D] fp32, rotated and scaled; keys: [Hkv, S, D].
        pages: [Hkv, P], not 0 for a page that the KV head reads.
        first_seen: first token that is visible.
    Returns: [H, P] fp32.
    """
    grouped = query.unflatten(0, (keys.shape[0], -1))
    scores = grouped @ keys.float().mT
    tokens = pages.bool().repeat_interleave(page_size, -1)[:, : keys.shape[1]]
    tokens[:, :first_seen] = False
    weights = scores.masked_fill(~tokens[:, None], -torch.inf).softmax(-1)
    return _by_page(weights.flatten(0, 1), page_size)


def _by_page(weights: Tensor, page_size: int) -> Tensor:
    """Sums of [..., S] by page: [..., P]."""
    padded = torch.nn.functional.pad(weights, (0, -weights.shape[-1] % page_size))
    mass: Tensor = padded.unflatten(-1, (-1, page_size)).sum(-1)
    return mass


def _scores_read(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, cap: float | None
) -> Tensor:
    """[R, H, S] fp32 of all keys of expanded blocks, -inf where a head does not read one."""
    scores = torch.cat([token_scores(query, block) for block in blocks], dim=-1)
    if cap is not None:
        scores = soft_cap(scores, cap)
    if plan.selects:
        pages = _chosen_pages(query, blocks, plan)
        pages = pages.repeat_interleave(query.shape[1] // pages.shape[1], dim=1)
        tokens = pages.repeat_interleave(plan.page_size, dim=-1)[..., : scores.shape[-1]]
        scores = scores.masked_fill(~tokens, -torch.inf)
    if plan.valid_tokens is not None:
        scores = scores.masked_fill(~plan.valid_tokens[:, None, :], -torch.inf)
    return scores


def page_readers(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> Tensor:
    """Number of KV heads of a decode step that read each page: any of their query heads chose it.

    Args: as ``attend``.
    Returns: [R, P] uint8, over the pages of all blocks.
    """
    blocks = [block.expanded() for block in blocks]
    num_kv_heads = blocks[0].keys.shape[1]
    if not plan.selects:
        return _seen_pages(blocks, plan, query.shape[0]).to(torch.uint8) * num_kv_heads
    pages = _chosen_pages(query, blocks, plan)
    readers: Tensor = pages.unflatten(1, (num_kv_heads, -1)).any(2).sum(1, dtype=torch.uint8)
    return readers


def mass_outside(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, best_fraction: float
) -> Tensor:
    """``page_mass_outside`` of a decode step: [R, H] fp32; arguments as ``attend``."""
    if plan.valid_pages is None or plan.tokens_per_page is None:
        raise ValueError("mass_outside needs a plan with valid_pages and tokens_per_page")
    scores = _scores_of_pages(query, [block.expanded() for block in blocks], plan)
    # Masses are of whole pages: no token is to be counted again.
    tokens = plan.valid_pages.long() if plan.scorer.is_mass else plan.tokens_per_page
    return page_mass_outside(scores, plan.valid_pages, tokens, best_fraction)


def mass_outside_of_row(
    query: Tensor,
    keys: Tensor,
    page_size: int,
    first_seen: int,
    scorer: PageScorer,
    best_fraction: float,
) -> Tensor:
    """``mass_outside`` of one row that reads every page: [H] fp32.

    Args:
        query: [H, D] fp32, rotated and scaled; keys: [Hkv, S, D].
        first_seen: first token that is visible.
    """
    visible = torch.arange(keys.shape[1])[None] >= first_seen
    padded = torch.nn.functional.pad(visible, (0, -keys.shape[1] % page_size))
    tokens = padded.unflatten(1, (-1, page_size)).sum(-1)
    plan = AttentionPlan(page_size, visible, tokens > 0, None, tokens, scorer)
    block = KVBlock(keys[None], keys[None])
    if scorer.reads_codes:
        whole = torch.nn.functional.pad(keys[None], (0, 0, 0, -keys.shape[1] % OCTET))
        block = KVBlock(keys[None], keys[None], None, *encode_keys(whole))
    return mass_outside(query[None], [block], plan, best_fraction)[0]


def group_fractions(log_mass: Tensor, valid_pages: Tensor, num_kv_heads: int) -> Tensor:
    """Mean over the heads of each KV group of their softmax over pages.

    Args:
        log_mass: [R, H, P] fp32, logarithms of masses (or bounds, taken as such).
        valid_pages: [R, P] bool.
    Returns: [R, Hkv, P] fp32.
    """
    fractions: Tensor = log_mass.masked_fill(~valid_pages[:, None, :], -torch.inf).softmax(-1)
    grouped: Tensor = fractions.unflatten(1, (num_kv_heads, -1)).mean(2)
    return grouped


def _seen_pages(blocks: Sequence[KVBlock], plan: AttentionPlan, num_rows: int) -> Tensor:
    """[R, P] bool, pages that hold a token the row may see."""
    if plan.valid_pages is not None:
        return plan.valid_pages
    num_tokens = sum(block.keys.shape[2] for block in blocks)
    seen = plan.valid_tokens
    if seen is None:
        seen = torch.ones(num_rows, num_tokens, dtype=torch.bool, device=blocks[0].keys.device)
    padded = torch.nn.functional.pad(seen, (0, -num_tokens % plan.page_size))
    pages: Tensor = padded.unflatten(1, (-1, plan.page_size)).any(-1)
    return pages


def _chosen_pages(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> Tensor:
    """[R, H, P] bool, or [R, Hkv, P] where the heads of a group choose together."""
    valid_pages, pages_kept = plan.valid_pages, plan.pages_kept
    assert valid_pages is not None
    assert pages_kept is not None
    scores = _scores_of_pages(query, blocks, plan)
    if plan.floors is None:
        return select_pages(scores, valid_pages, pages_kept)
    fractions = group_fractions(scores, valid_pages, blocks[0].keys.shape[1])
    return select_needed(fractions, valid_pages, pages_kept, plan.floors)


def _scores_of_pages(query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan) -> Tensor:
    """[R, H, P] fp32 over the pages of all blocks, by the plan's scorer."""
    scores, start = [], 0
    for block in blocks:
        end = start + block.keys.shape[2]
        seen = None if plan.valid_tokens is None else plan.valid_tokens[:, start:end]
        scores.append(plan.scorer.score(query, block, seen, plan.page_size))
        start = end
    return torch.cat(scores, dim=-1)


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


def page_need(fractions: Tensor, valid_pages: Tensor) -> Tensor:
    """Fractions [R, Hkv, P] of attention in units of a mean page's, pages valid as [R, P] says."""
    return fractions * valid_pages.sum(-1)[:, None, None]


def select_needed(
    fractions: Tensor, valid_pages: Tensor, pages_kept: Tensor, floors: Tensor
) -> Tensor:
    """The pages whose need reaches a floor, and the heaviest in any case: for a number of pages in
    all, those that hold the most attention, however they are spread over layers and groups.

    Args:
        fractions: [R, Hkv, P] fp32, 0 where not valid.
        valid_pages: [R, P] bool.
        pages_kept: [R] int64; rows that keep as many as they have read all.
        floors: [R] fp32.
    Returns: [R, Hkv, P] bool.
    """
    counts = valid_pages.sum(-1)
    least = torch.minimum((floors / counts)[:, None, None], fractions.amax(-1, keepdim=True))
    needed = (fractions >= least) | (pages_kept >= counts)[:, None, None]
    return needed & valid_pages[:, None, :]


def page_mass_outside(
    scores: Tensor, valid_pages: Tensor, tokens_per_page: Tensor, best_fraction: float
) -> Tensor:
    """Return the attention mass that the heaviest pages leave over: a measure of its spread.

    A page weighs as if each of its tokens had the page's score. The heaviest
    ``ceil(best_fraction · P)`` of a row's P valid pages (at least one) are its best.

    Args:
        scores: [..., H, P] fp32, already scaled.
        valid_pages: [..., P] bool, at least one True per row.
        tokens_per_page: [..., P], tokens of each page that the row may see.
        best_fraction: of the valid pages, in (0, 1].
    Returns: [..., H] fp32 in [0, 1), the softmax mass outside the best pages.
    """
    weights = scores + tokens_per_page.clamp(min=1).log()[..., None, :]
    weights = weights.masked_fill(~valid_pages[..., None, :], -torch.inf)
    mass = torch.softmax(weights, dim=-1).sort(dim=-1, descending=True).values
    best = torch.ceil(valid_pages.sum(-1) * best_fraction - 1e-9).clamp(min=1)
    rank = torch.arange(scores.shape[-1], device=scores.device)
    return mass.masked_fill(rank < best[..., None, None], 0.0).sum(-1)


def _joined(blocks: Sequence[KVBlock]) -> list[KVBlock]:
    """Expanded blocks of one row as a single one, unless they have 4-bit keys."""
    if len(blocks) == 1 or any(block.codes is not None for block in blocks):
        return list(blocks)
    keys, values = ([getattr(block, name) for block in blocks] for name in ("keys", "values"))
    return [KVBlock(torch.cat(keys, 2), torch.cat(values, 2))]


def _weighted_values(weights: Tensor, block: KVBlock) -> Tensor:
    """Sum of the block's values under attention weights [R, H, S] fp32: [R, H, D] fp32."""
    mixed = group_rows(weights, block.values) @ block.values.float()
    return ungroup_rows(mixed, weights.shape[0])
