"""Bytes that decode steps read, counted with the tokens that their attention really read."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from sol_core.actions import DENSE, MAX_BITS, Action, Budget
from sol_core.decoding.cost import CostModel


class PolicyReads(NamedTuple):
    """Reads that a policy adds to a row's steps.

    Attributes:
        num_bytes: of its network.
        scores_pages: steps that read all pages score them for it.
    """

    num_bytes: int = 0
    scores_pages: bool = False


NO_POLICY = PolicyReads()


class StepBytes:
    """``CostModel.decode_step(...).bytes_read``, quick enough to be asked at every step."""

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        self._known: dict[tuple[Action | Budget, int, bool, bool], float] = {}
        self._weights: dict[tuple[float, bool], float] = {}  # by share of the channels, and dense
        first, second = (costs.decode_step(DENSE, 1, tokens_read=n).bytes_read for n in (0.0, 1.0))
        self._per_token = second - first  # keys and values of one head
        self._windows = tuple(Counter(costs.spec.windows).items())
        self._by_need = costs.mechanisms.page_budget == "need"

    def dense(self, cached_tokens: int) -> float:
        """Bytes of a dense step that attends over ``cached_tokens``, its own included."""
        seen = sum(layers * visible for visible, layers in self._seen(cached_tokens))
        return self._of_weights(DENSE) + self._per_token * self._costs.spec.num_kv_heads * seen

    def of(
        self,
        action: Action | Budget,
        cached_tokens: int,
        tokens_read: float | None = None,
        *,
        observed: bool = False,
    ) -> float:
        """Bytes of one step that attends over ``cached_tokens``, its own included.

        Args:
            action: of the step, or a mean spend.
            tokens_read, observed: as of ``CostModel.decode_step``.
        """
        if tokens_read is not None and self._by_need:
            read = self._of_weights(action) + self._per_token * tokens_read
            if observed or action.keep_fraction < 1:
                for visible, layers in self._seen(cached_tokens):
                    read += layers * self._costs.page_scores(visible)[1]
            return read
        key = (action, cached_tokens, tokens_read is not None, observed)
        if key not in self._known:
            self._known[key] = self._costs.decode_step(
                action,
                cached_tokens,
                tokens_read=None if tokens_read is None else 0.0,
                observed=observed,
            ).bytes_read
        return self._known[key] + self._per_token * (tokens_read or 0.0)

    def share(
        self, action: Action | Budget, cached_tokens: int, tokens_read: float | None = None
    ) -> float:
        """``of`` as a share of a dense step's bytes."""
        return self.of(action, cached_tokens, tokens_read) / self.dense(cached_tokens)

    def _seen(self, cached_tokens: int) -> list[tuple[int, int]]:
        """Tokens that layers attend over, and how many layers they are."""
        return [(min(cached_tokens, w or cached_tokens), layers) for w, layers in self._windows]

    def _of_weights(self, action: Action | Budget) -> float:
        key = action.channel_keep_ratio, action.is_dense
        if key not in self._weights:
            alike = DENSE if key[1] else Action(channel_keep_ratio=key[0], bit_width=MAX_BITS - 1)
            self._weights[key] = self._costs.decode_step(alike, 1, tokens_read=0.0).bytes_read
        return self._weights[key]
