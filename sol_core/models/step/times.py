"""Times of decode steps on one machine: what a budget would gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sol_core.actions import Action, Budget


@dataclass(frozen=True, slots=True)
class TimesAtContext:
    """Milliseconds of the parts of a step after so many tokens."""

    context: int
    dense: float  # attention that reads all
    sparse: tuple[float, float]  # where pages are chosen, and for 1,000 tokens read of a KV head
    mlp: float  # whole
    head: tuple[float, float]  # whole, and previewed
    around: float  # of a token: what the kernel is given, drawing and describing it


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Times at some contexts, ascending, two or more; a step's lie on lines through them."""

    at: tuple[TimesAtContext, ...]
    channels: tuple[float, ...]  # fractions of the MLP that are kept, ascending
    mlp: tuple[float, ...]  # ms at each of them, after the first context
    readers: int  # layers times KV heads

    def step_ms(self, action: Action | Budget, context: int) -> float:
        """Estimate a step after so many tokens, ms; a mean spend is interpolated."""
        known = [self._known(times, action) for times in self.at]
        contexts = [times.context for times in self.at]
        last = min(int(np.searchsorted(contexts, context)), len(contexts) - 1)
        first = max(last, 1) - 1  # the nearest two, beyond them too
        slope = (known[first + 1] - known[first]) / (contexts[first + 1] - contexts[first])
        return known[first] + slope * (context - contexts[first])

    def _known(self, times: TimesAtContext, action: Action | Budget) -> float:
        attention = times.dense
        if action.keep_fraction < 1:
            read = self.readers * times.context * action.keep_fraction / 1000
            attention = times.sparse[0] + times.sparse[1] * read
        kept = float(np.interp(action.channel_keep_ratio, self.channels, self.mlp))
        mlp = times.mlp * kept / self.mlp[-1]
        return attention + mlp + times.head[0 if action.is_dense else 1] + times.around
