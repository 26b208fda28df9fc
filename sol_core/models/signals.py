"""What a policy observes of a pass besides the last hidden state; costs almost nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from kernels.key_codes import OCTET, encode_keys
from kernels.page_attention import KVBlock, group_fractions, page_mass_outside
from kernels.page_scorers import PAGE_SCORERS, PageScorer, TextScores
from sol_core.models.cache import KVCache
from sol_core.models.spec import ModelSpec

BEST_PAGES = 0.4  # fraction of the pages that count as best
_SCORES_PER_CHUNK = 2**22  # page scores in memory at a time in a prefill: 16 MB


class Observe(IntEnum):
    """Extra outputs of a step; each includes the previous ones."""

    NOTHING = 0
    STATES = 1
    CONCENTRATION = 2  # scores pages even if all are read


@dataclass(frozen=True, slots=True)
class PrefillOutput:
    """Output of an observed prefill; padding is undefined."""

    hidden: Tensor  # [R, T, C] fp32, after the final norm
    attention_concentration: Tensor  # [R, N, num_layers] fp32, mass outside the best pages
    mid_hidden: Tensor  # [R, N, 2, C] fp32, a third and two thirds up the layers


class PrefillObserver:
    """Collects the signals of a prefill's tokens, layer by layer."""

    def __init__(
        self,
        spec: ModelSpec,
        cache: KVCache,  # as it is before the prefill of ``count`` tokens
        count: int,
        scorer: PageScorer,
        observed: Tensor | None,  # [N] int64, ascending, among these tokens; None is all
    ) -> None:
        self._spec, self._page_size, self._scorer = spec, cache.page_size, scorer
        self._seen = slice(None) if observed is None else observed
        start = cache.own_lengths[0]
        self._positions = torch.arange(start, start + count, device=cache.device)[self._seen]
        self._concentration, self._middle = list[Tensor](), list[Tensor]()

    def watch(self, index: int, query: Tensor, block: KVBlock) -> None:
        """Record the attention mass outside the best pages, from a layer's rotated and scaled
        queries [R, H, T, D] and its keys, including those of the new tokens."""
        scorer, size, window = self._scorer, self._page_size, self._spec.windows[index]
        query = query.transpose(1, 2)[:, self._seen].transpose(1, 2)
        rows, heads, _, _ = query.shape
        kv_heads, cached = block.keys.shape[1], block.keys.shape[2]
        grouped = query.unflatten(1, (kv_heads, heads // kv_heads))
        find: TextScores = _RowScores(scorer, block)
        if scorer.over_text is not None:
            find = scorer.over_text(block.keys, size)
        chunk = max(1, _SCORES_PER_CHUNK // (rows * heads * find.width))
        parts = []
        pieces = zip(self._positions.split(chunk), grouped.split(chunk, -2), strict=True)
        for some, piece in pieces:
            tokens = _tokens_per_page(some, -(-cached // size), size, window)
            scores = find(piece, some, size, window)
            # Masses already sum over a page's tokens.
            weights = (tokens > 0).long() if scorer.is_mass else tokens
            parts.append(page_mass_outside(scores, tokens > 0, weights, BEST_PAGES))
        self._concentration.append(torch.cat(parts, dim=1).mean(-1))

    def on_stream(self, index: int, hidden: Tensor) -> None:
        """Record the residual stream [R, T, C] after a layer."""
        times = self._spec.middle_layers.count(index)
        self._middle += [hidden[:, self._seen].float()] * times

    def output(self, hidden: Tensor) -> PrefillOutput:
        concentration = torch.stack(self._concentration, -1)
        return PrefillOutput(hidden, concentration, torch.stack(self._middle, -2))


def text_fractions(
    query: Tensor, block: KVBlock, positions: Tensor, page_size: int, window: int | None
) -> tuple[Tensor, Tensor]:
    """Return each page's fraction of a KV group's attention for T tokens, from 4-bit keys."""
    _, kv_heads, cached, _ = block.keys.shape
    find = _RowScores(PAGE_SCORERS["int4"], block)
    seen = _tokens_per_page(positions, -(-cached // page_size), page_size, window) > 0
    grouped = query.unflatten(1, (kv_heads, -1))
    return group_fractions(find(grouped, positions, page_size, window)[0], seen, kv_heads), seen


class _RowScores:
    """Scores each token as a row of a decode step; see ``TextScores``."""

    def __init__(self, scorer: PageScorer, block: KVBlock) -> None:
        self._score = scorer.score
        self._block = block
        self.width = block.keys.shape[2]
        if scorer.reads_codes:
            padded = torch.nn.functional.pad(block.keys, (0, 0, 0, -self.width % OCTET))
            codes, scales = encode_keys(padded)
            self._block = replace(block, codes=codes, scales=scales)

    def __call__(
        self, query: Tensor, positions: Tensor, page_size: int, window: int | None
    ) -> Tensor:
        rows = query.permute(0, 3, 1, 2, 4).flatten(2, 3)  # [R, T, H, D]
        cached = torch.arange(self.width, device=positions.device)
        seen = cached <= positions[:, None]
        if window is not None:
            seen &= cached > positions[:, None] - window
        seen = seen.repeat(rows.shape[0], 1)
        flat = self._score(rows.flatten(0, 1), self._block, seen, page_size)
        scores: Tensor = flat.unflatten(0, rows.shape[:2])
        return scores


def _tokens_per_page(
    positions: Tensor, num_pages: int, page_size: int, window: int | None
) -> Tensor:
    """Return [T, P], how many tokens of each page each position sees."""
    first_seen = torch.zeros_like(positions)
    if window is not None:
        first_seen = (positions + 1 - window).clamp(min=0)
    starts = torch.arange(num_pages, device=positions.device) * page_size
    ends = torch.minimum(starts + page_size, positions[:, None] + 1)
    return (ends - torch.maximum(starts, first_seen[:, None])).clamp(min=0)
