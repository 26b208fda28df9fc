"""Page-sparse decode attention (Quest, arXiv:2406.10774): page bounds, selection, attention."""

from kernels.page_attention.reference import (
    AttentionPlan,
    KVBlock,
    decode_attention,
    page_bounds,
    page_scores,
    select_pages,
)

__all__ = [
    "AttentionPlan",
    "KVBlock",
    "decode_attention",
    "page_bounds",
    "page_scores",
    "select_pages",
]
