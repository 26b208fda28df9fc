"""Observations of a pass for a policy besides its last hidden state, both nearly free.

*Attention concentration*: per layer, the share of attention that the best 40 % of pages
leave over, judged as a compressed step scores its pages anyway (by Quest's page bounds, or
by masses from 4-bit keys). A row whose attention is spread over many pages suffers more when
pages are dropped.
*Middle hidden states*: the residual stream one third and two thirds up the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.key_codes import OCTET, encode_keys, estimated_scores, page_log_mass
from kernels.page_attention import KVBlock, page_bounds, page_mass_outside
from sol_core.actions import PageScorer
from sol_core.models.spec import ModelSpec

__all__ = ["BEST_PAGES", "PrefillOutput", "Signals", "prefill_concentration"]

BEST_PAGES = 0.4  # share of the pages whose mass does not count as spread
_SCORES_PER_CHUNK = 2**22  # page scores held at a time in a prefill: 16 MB


@dataclass(frozen=True, slots=True)
class PrefillOutput:
    """Outputs of an observed prefill; padding is undefined.

    Attributes:
        hidden: [R, T, C] fp32, after the final norm.
        attention_concentration: [R, N, num_layers] fp32, mean over heads of the mass
            outside the best pages of keys 0 … t; N observed positions, all T by default.
        mid_hidden: [R, N, 2, C] fp32, residual stream after the layers with index
            ``num_layers // 3`` and ``2 · num_layers // 3``.
    """

    hidden: Tensor
    attention_concentration: Tensor
    mid_hidden: Tensor


class Signals:
    """Collects the signals of one pass, layer after layer."""

    def __init__(self, spec: ModelSpec) -> None:
        self._mid_layers = (spec.num_layers // 3, 2 * spec.num_layers // 3)
        self._concentration: list[Tensor] = []
        self._mid_hidden: list[Tensor] = []

    def add_layer(self, index: int, mass_outside: Tensor, hidden: Tensor) -> None:
        """Args: mass_outside [..., H]; hidden [..., C], the residual stream after the layer."""
        self._concentration.append(mass_outside.mean(-1))
        self._mid_hidden += [hidden.float()] * self._mid_layers.count(index)

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Concentration [..., num_layers] and middle hidden states [..., 2, C]."""
        return torch.stack(self._concentration, -1), torch.stack(self._mid_hidden, -2)


def prefill_concentration(
    query: Tensor,
    block: KVBlock,
    positions: Tensor,
    *,
    page_size: int,
    window: int | None,
    scorer: PageScorer,
) -> Tensor:
    """Attention mass outside the best pages for each of T new tokens at once.

    Args:
        query: [R, H, T, D] fp32, rotated and scaled.
        block: keys [R, Hkv, S, D], those of the new tokens among them.
        positions: [T] int64 of the tokens.
        page_size: tokens per page.
        window: each token sees its last ``window`` tokens, itself included; None is all.
        scorer: of the pages, as a decode step scores them.
    Returns: [R, T, H] fp32; what a dense decode step at the same position observes.
    """
    rows, heads, _, _ = query.shape
    kv_heads, cached = block.keys.shape[1], block.keys.shape[2]
    grouped = query.unflatten(1, (kv_heads, heads // kv_heads))
    find = _BoundScores(block.keys, page_size) if scorer == "quest" else _MassScores(block.keys)
    chunk = max(1, _SCORES_PER_CHUNK // (rows * heads * find.width))
    parts = []
    for some, piece in zip(positions.split(chunk), grouped.split(chunk, -2), strict=True):
        tokens = _tokens_per_page(some, -(-cached // page_size), page_size, window)
        scores = find(piece, some, page_size, window)
        scores = scores.flatten(1, 2).transpose(1, 2)  # [R, chunk, H, P]
        # Masses count a page's tokens already.
        weights = tokens if scorer == "quest" else (tokens > 0).long()
        parts.append(page_mass_outside(scores, tokens > 0, weights, BEST_PAGES))
    return torch.cat(parts, dim=1)


class _BoundScores:
    """Quest's bounds of every page's scores, [R, Hkv, G, T, P]."""

    def __init__(self, keys: Tensor, page_size: int) -> None:
        low, high = page_bounds(keys, None, page_size)
        self._low, self._high = low[:, :, None].float(), high[:, :, None].float()
        self.width = low.shape[2]
        self._keys = keys

    def __call__(
        self, query: Tensor, positions: Tensor, page_size: int, window: int | None
    ) -> Tensor:
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
        return scores.scatter(-1, pages[..., None], own[..., None])


class _MassScores:
    """Logarithms of every page's attention mass by 4-bit keys, [R, Hkv, G, T, P]."""

    def __init__(self, keys: Tensor) -> None:
        self.width = keys.shape[2]
        padded = torch.nn.functional.pad(keys, (0, 0, 0, -self.width % OCTET))
        self._codes, self._scales = (part[:, :, None] for part in encode_keys(padded))

    def __call__(
        self, query: Tensor, positions: Tensor, page_size: int, window: int | None
    ) -> Tensor:
        scores = estimated_scores(query, self._codes, self._scales)[..., : self.width]
        places = torch.arange(self.width, device=positions.device)
        unseen = places > positions[:, None]
        if window is not None:
            unseen |= places <= positions[:, None] - window
        return page_log_mass(scores.masked_fill(unseen, -torch.inf), None, page_size)


def _tokens_per_page(
    positions: Tensor, num_pages: int, page_size: int, window: int | None
) -> Tensor:
    """[T, P]: how many tokens of each page a token at each position sees."""
    first_seen = torch.zeros_like(positions)
    if window is not None:
        first_seen = (positions + 1 - window).clamp(min=0)
    starts = torch.arange(num_pages, device=positions.device) * page_size
    ends = torch.minimum(starts + page_size, positions[:, None] + 1)
    return (ends - torch.maximum(starts, first_seen[:, None])).clamp(min=0)
