"""Ways to score pages, by which they are chosen: a record for each, and the table of them.

Quest's bounds (arXiv:2406.10774), as the paper does it, or the attention mass of a page, estimated
from 4-bit copies of the keys. Importing this brings in no torch: forms and command lines list the
names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kernels.kv_blocks import KVBlock, group_rows, ungroup_rows

if TYPE_CHECKING:
    from torch import Tensor


class PagesToScore(NamedTuple):
    """Sizes of a row's pages in one layer; widths are heads times head size."""

    query_width: int
    kv_width: int
    num_kv_heads: int
    tokens: int
    pages: int
    bytes_per_cached: int


class TextScores(Protocol):
    """Scores of the pages for tokens of a text that are read at once."""

    @property
    def width(self) -> int:
        """Numbers held at a time for one query: bounds the memory."""

    def __call__(
        self, query: Tensor, positions: Tensor, page_size: int, window: int | None
    ) -> Tensor:
        """Scores as a step at each position would give them.

        Args:
            query: [R, Hkv, G, T, D] fp32, rotated and scaled.
            positions: [T] int64 of the tokens.
            window: each token sees its last ``window`` tokens, itself included; None is all.
        Returns: [R, T, H, P] fp32.
        """


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PageScorer:
    """A way to score pages. Kernels serve one; the reference serves all others."""

    name: str  # in grids, policies and results
    label: str = ""  # in forms
    meaning: str = ""  # in forms, goes on a sentence
    # Of query [R, H, D] fp32 (rotated and scaled), a block of S tokens, which of them a row sees
    # (bool [R, S], None: all) and the page size → [R, H, P] fp32. Scores of pages without such a
    # token do not matter.
    score: Callable[[Tensor, KVBlock, Tensor | None, int], Tensor]
    cost: Callable[[PagesToScore], tuple[float, float]]  # FLOPs, bytes read; one layer of a row
    reads_codes: bool = False  # of the 4-bit copies of the keys, which the cache then keeps
    # Scores are logarithms of attention masses of whole pages; else they are those of a page's best
    # token, and count as often as it has tokens.
    is_mass: bool = False
    # Of keys [R, Hkv, S, D] and the page size, for a dense pass over a text; by default ``score``
    # with every token a row.
    over_text: Callable[[Tensor, int], TextScores] | None = None
    compiled_choice: str | None = None  # who may choose by it for the kernels to serve it

    def __str__(self) -> str:
        return self.name


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
        offsets = positions - start
        low = paged.cummin(3).values.flatten(2, 3)[:, :, None, offsets]
        high = paged.cummax(3).values.flatten(2, 3)[:, :, None, offsets]
        own = (up * high + down * low).sum(-1)
        pages = (positions // page_size).expand_as(own)
        return scores.scatter(-1, pages[..., None], own[..., None]).flatten(1, 2).transpose(1, 2)


def _quest_cost(work: PagesToScore) -> tuple[float, float]:
    """Two products a page and head, over a minimum and a maximum."""
    read = 2.0 * work.kv_width * work.pages * work.bytes_per_cached
    return 4.0 * work.query_width * work.pages, read


def _int4_scores(query: Tensor, block: KVBlock, seen: Tensor | None, page_size: int) -> Tensor:
    from kernels.key_codes import estimated_scores, page_log_mass

    if block.codes is None or block.scales is None:
        raise ValueError("the int4 scorer needs blocks with codes and scales")
    scores = estimated_scores(group_rows(query, block.keys), block.codes, block.scales)
    scores = ungroup_rows(scores, query.shape[0])[..., : block.keys.shape[2]]
    return page_log_mass(scores, seen, page_size)


def _int4_cost(work: PagesToScore) -> tuple[float, float]:
    """Every token's 4-bit key, its scale and its minimum."""
    read = (work.kv_width / 2 + 4.0 * work.num_kv_heads) * work.tokens
    return 2.0 * work.query_width * work.tokens, read


QUEST = PageScorer(
    name="quest",
    label="Quest's bounds",
    meaning="the paper's bounds",
    score=page_scores,
    cost=_quest_cost,
    over_text=_BoundsOverText,
)
INT4 = PageScorer(
    name="int4",
    label="4-bit keys",
    meaning="mass from 4-bit keys",
    score=_int4_scores,
    cost=_int4_cost,
    reads_codes=True,
    is_mass=True,
    compiled_choice="group",
)
PAGE_SCORERS = {scorer.name: scorer for scorer in (QUEST, INT4)}
