"""Pages scored by their attention mass, estimated from 4-bit copies of the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.kv_blocks import KVBlock, group_rows, ungroup_rows
from kernels.page_scorers.page_scorer import PageScorer, PagesToScore

if TYPE_CHECKING:
    from torch import Tensor


def _score(query: Tensor, block: KVBlock, seen: Tensor | None, page_size: int) -> Tensor:
    from kernels.key_codes import estimated_scores, page_log_mass

    if block.codes is None or block.scales is None:
        raise ValueError("the int4 scorer needs blocks with codes and scales")
    scores = estimated_scores(group_rows(query, block.keys), block.codes, block.scales)
    scores = ungroup_rows(scores, query.shape[0])[..., : block.keys.shape[2]]
    return page_log_mass(scores, seen, page_size)


def _cost(work: PagesToScore) -> tuple[float, float]:
    """Every token's 4-bit key, its scale and its minimum."""
    read = (work.kv_width / 2 + 4.0 * work.num_kv_heads) * work.tokens
    return 2.0 * work.query_width * work.tokens, read


INT4 = PageScorer(
    name="int4",
    label="4-bit keys",
    meaning="mass from 4-bit keys",
    score=_score,
    cost=_cost,
    reads_codes=True,
    is_mass=True,
    compiled_choice="group",
)
