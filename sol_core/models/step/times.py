"""Times of decode steps on one machine: what a budget would gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sol_core.actions import Action, Budget


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Milliseconds of the parts of a step."""

    dense: tuple[float, ...]  # of attention: whatever it reads, and for 1,000 tokens of a KV head
    sparse: tuple[float, ...]  # where pages are chosen, in between: for 1,000 tokens there are
    channels: tuple[float, ...]  # fractions of the MLP that are kept, ascending
    mlp: tuple[float, ...]  # at each of them
    head: tuple[float, ...]  # whole, and previewed
    rest: float
    readers: int  # layers times KV heads

    def step_ms(self, action: Action | Budget, context: int) -> float:
        """Estimate a step after so many tokens, ms; a mean spend is interpolated."""
        head = self.head[0 if action.is_dense else 1]
        read = self.readers * context * action.keep_fraction / 1000
        if action.keep_fraction < 1:
            attention = float(np.dot(self.sparse, (1.0, context / 1000, read)))
        else:
            attention = float(np.dot(self.dense, (1.0, read)))
        mlp = float(np.interp(action.channel_keep_ratio, self.channels, self.mlp))
        return attention + mlp + head + self.rest
