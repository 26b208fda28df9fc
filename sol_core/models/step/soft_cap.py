"""Soft limits of attention's scores and of logits (Gemma 2, arXiv:2408.00118).

No kernel knows the limit of scores: a step of such a model attends here, on any device. Pages are
scored as for other models, without it: it keeps the order of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from kernels.kv_blocks import group_rows, token_scores, ungroup_rows
from kernels.page_attention import AttentionPlan, KVBlock, select_pages
from kernels.page_attention.reference import group_shares
from kernels.page_scorers import PAGE_SCORERS

if TYPE_CHECKING:
    from torch import Tensor

    from sol_core.models.spec import ModelSpec

__all__ = ["capped_attention", "final_logits", "soft_cap"]


def soft_cap(scores: Tensor, cap: float) -> Tensor:
    """``cap · tanh(scores / cap)``: any shape → the same."""
    return torch.tanh(scores / cap) * cap


def final_logits(logits: Tensor, spec: ModelSpec) -> Tensor:
    """Logits of the model from the products of its head, [..., V] fp32."""
    if spec.logit_scale is not None:
        logits = logits * spec.logit_scale
    return logits if spec.logit_cap is None else soft_cap(logits, spec.logit_cap)


def capped_attention(
    query: Tensor, blocks: Sequence[KVBlock], plan: AttentionPlan, cap: float
) -> Tensor:
    """Attend one new token per row to the best pages, scores limited to ±cap.

    Args: as ``kernels.page_attention.decode_attention``.
    Returns: [R, H, D] fp32.
    """
    blocks = [block.expanded() for block in blocks]
    scores = soft_cap(torch.cat([token_scores(query, block) for block in blocks], -1), cap)
    widths = [block.keys.shape[2] for block in blocks]
    if plan.pages_kept is not None and plan.valid_pages is not None:
        pages = _chosen_pages(query, blocks, plan, plan.valid_pages, plan.pages_kept)
        tokens = pages.repeat_interleave(plan.page_size, -1)[..., : scores.shape[-1]]
        scores = scores.masked_fill(~tokens, -torch.inf)
    if plan.valid_tokens is not None:
        scores = scores.masked_fill(~plan.valid_tokens[:, None], -torch.inf)
    mixed = [
        ungroup_rows(group_rows(part, block.values) @ block.values.float(), len(query))
        for part, block in zip(scores.softmax(-1).split(widths, -1), blocks, strict=True)
    ]
    return mixed[0] if len(mixed) == 1 else mixed[0] + mixed[1]


def _chosen_pages(
    query: Tensor,
    blocks: Sequence[KVBlock],
    plan: AttentionPlan,
    valid_pages: Tensor,
    pages_kept: Tensor,
) -> Tensor:
    """[R, H, P] bool."""
    score, num_kv_heads = PAGE_SCORERS[plan.scorer].score, blocks[0].keys.shape[1]
    widths = [block.keys.shape[2] for block in blocks]
    seen = [None] * len(blocks) if plan.valid_tokens is None else plan.valid_tokens.split(widths, 1)
    pairs = zip(blocks, seen, strict=True)
    found = torch.cat([score(query, block, some, plan.page_size) for block, some in pairs], -1)
    if plan.choice == "group":
        found = group_shares(found, valid_pages, num_kv_heads)
    chosen = select_pages(found, valid_pages, pages_kept)
    return chosen.repeat_interleave(query.shape[1] // chosen.shape[1], 1)
