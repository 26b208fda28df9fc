"""The form in which a way to score pages is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kernels.kv_blocks import KVBlock

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


@dataclass(frozen=True, slots=True, eq=False)
class PageScorer:
    """A way to score pages. Kernels serve one; the reference serves all others.

    Attributes:
        name: in grids, policies and results.
        label, meaning: in forms; the meaning goes on a sentence.
        score: of query [R, H, D] fp32 (rotated and scaled), a block of S tokens, which of them a
            row sees (bool [R, S], None: all) and the page size → [R, H, P] fp32. Scores of
            pages without such a token do not matter.
        cost: FLOPs, and bytes read, of one layer's scores of a row.
        reads_codes: it reads the 4-bit copies of the keys, which the cache then keeps.
        is_mass: scores are logarithms of attention masses of whole pages; else they are those of
            a page's best token, and count as often as it has tokens.
        over_text: of keys [R, Hkv, S, D] and the page size, for a dense pass over a text; by
            default ``score`` with every token a row.
        compiled_choice: who may choose pages by it for the kernels to serve it; None: nobody.
    """

    name: str
    label: str
    meaning: str
    score: Callable[[Tensor, KVBlock, Tensor | None, int], Tensor]
    cost: Callable[[PagesToScore], tuple[float, float]]
    reads_codes: bool = False
    is_mass: bool = False
    over_text: Callable[[Tensor, int], TextScores] | None = None
    compiled_choice: str | None = None
