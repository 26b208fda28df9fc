"""Pages scored by Quest's bounds of their keys (arXiv:2406.10774), as the paper does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.kv_blocks import KVBlock, group_rows, ungroup_rows
from kernels.page_scorers.page_scorer import PageScorer, PagesToScore

if TYPE_CHECKING:
    from torch import Tensor


def page_bounds(keys: Tensor, valid: Tensor | None, page_size: int) -> tuple[Tensor, Tensor]:
    """Elementwise minimum and maximum key of each page.

    Args:
        keys: [N, Hkv, S, D]; the last page may be short.
        valid: [N, S] bool, tokens that count; None means all of them.
        page_size: tokens per page.
    Returns: two [N, Hkv, P, D] tensors in the keys' dtype, P = ceil(S / page_size); a
        page without a valid token is (+inf, −inf).
    """
    import torch

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


def page_scores(query: Tensor, block: KVBlock, seen: Tensor | None, page_size: int) -> Tensor:
    """Quest's upper bound of the attention score within each page.

    For q_d ≥ 0 the larger of q_d·min_d and q_d·max_d is q_d·max_d, else q_d·min_d, so
    the bound is two matrix products.

    Args:
        query: [R, H, D] fp32, rotated; R is a multiple of the block's N.
        seen: [R, S] bool, tokens that a row sees; None: all. Bounds are those of all tokens up to
            the last one that any row of a sequence sees, also of those before a window.
    Returns: [R, H, P] fp32; of a page without such a token 0.
    """
    valid = None
    if seen is not None:
        last_first = seen.unflatten(0, (block.keys.shape[0], -1)).any(1).flip(1)
        valid = last_first.cumsum(1).flip(1) > 0
    low, high = page_bounds(block.keys, valid, page_size)
    # Bounds of unused pages are infinite, and 0 · inf is NaN.
    low, high = (part.masked_fill(part.isinf(), 0.0).float() for part in (low, high))
    grouped = group_rows(query, block.keys)
    scores = grouped.clamp(min=0) @ high.mT + grouped.clamp(max=0) @ low.mT
    return ungroup_rows(scores, query.shape[0])


class _BoundsOverText:
    """Bounds of every page's scores for many tokens; see ``TextScores``."""

    def __init__(self, keys: Tensor, page_size: int) -> None:
        low, high = page_bounds(keys, None, page_size)
        self._low, self._high = low[:, :, None].float(), high[:, :, None].float()
        self.width = low.shape[2]
        self._keys = keys

    def __call__(
        self, query: Tensor, positions: Tensor, page_size: int, window: int | None
    ) -> Tensor:
        import torch

        up, down = query.clamp(min=0), query.clamp(max=0)
        scores = up @ self._high.mT + down @ self._low.mT
        # A token's own page holds only the keys up to itself.
        start = int(positions[0]) // page_size * page_size
        paged = self._keys[:, :, start : int(positions[-1]) + 1].float()
        paged = torch.nn.functional.pad(paged, (0, 0, 0, -paged.shape[2] % page_size))
        paged = paged.unflatten(2, (-1, page_size))
        places = positions - start
        low = paged.cummin(3).values.flatten(2, 3)[:, :, None, places]
        high = paged.cummax(3).values.flatten(2, 3)[:, :, None, places]
        own = (up * high + down * low).sum(-1)
        pages = (positions // page_size).expand_as(own)
        return scores.scatter(-1, pages[..., None], own[..., None]).flatten(1, 2).transpose(1, 2)


def _cost(work: PagesToScore) -> tuple[float, float]:
    """Two products a page and head, over a minimum and a maximum."""
    read = 2.0 * work.kv_width * work.pages * work.bytes_per_cached
    return 4.0 * work.query_width * work.pages, read


QUEST = PageScorer(
    name="quest",
    label="Quest's bounds",
    meaning="the paper's bounds",
    score=page_scores,
    cost=_cost,
    over_text=_BoundsOverText,
)
