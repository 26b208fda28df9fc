"""Bytes that decode steps read, counted with the tokens that their attention really read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sol_core.actions import DENSE, Action, ActionGrid, Budget
from sol_core.comparing.rollout import Floats, Rollout
from sol_core.decoding.cost import CostModel
from sol_core.models import FrozenLM


class StepBytes:
    """Computed bytes of decode steps, each kind worked out once."""

    def __init__(self, lm: FrozenLM, grid: ActionGrid) -> None:
        self._costs = CostModel.of(lm, grid)
        self._known: dict[tuple[Action | Budget, int, bool, bool], float] = {}
        first, second = (self._costs.decode_step(DENSE, 1, tokens_read=n) for n in (0.0, 1.0))
        self._per_token = second.bytes_read - first.bytes_read  # keys and values of one head

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
        is_counted = tokens_read is not None
        key = (action, cached_tokens, is_counted, observed)
        if key not in self._known:
            self._known[key] = self._costs.decode_step(
                action, cached_tokens, tokens_read=0.0 if is_counted else None, observed=observed
            ).bytes_read
        return self._known[key] + self._per_token * (tokens_read or 0.0)

    def of_rollout(self, rollout: Rollout, policy_bytes: Sequence[float]) -> Floats:
        """[B, G, T] bytes of every step of a rollout.

        Args:
            policy_bytes: per row, read by its policy's network at every step; 0 without one.
        """
        found = np.zeros(rollout.nll.shape)
        for window, row, step in np.ndindex(found.shape):
            found[window, row, step] = policy_bytes[row] + self.of(
                Action.of(rollout.spend[window, row, step].tolist()),
                int(rollout.cached_tokens[window, step]),
                float(rollout.tokens_read[window, row, step]),
                observed=policy_bytes[row] > 0,
            )
        return found
