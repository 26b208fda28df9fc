"""Estimates decode step times on one machine from a few measured ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sol_core.actions import Action, Budget


@dataclass(frozen=True, slots=True)
class TimesAtContext:
    """Milliseconds of the parts of a step after so many tokens."""

    context: int
    dense: float  # dense attention
    sparse: tuple[float, float]  # sparse attention: fixed, and per 1,000 tokens of a KV head read
    mlp: float  # whole MLP
    head: tuple[float, float]  # whole, and previewed
    around: float  # the rest of a token: planning, sampling, its event


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Times at two or more ascending contexts; others are interpolated linearly."""

    at: tuple[TimesAtContext, ...]
    channels: tuple[float, ...]  # measured channel keep ratios, ascending
    mlp: tuple[float, ...]  # ms at each of them, after the first context
    readers: int  # layers times KV heads

    def step_ms(self, action: Action | Budget, context: int) -> float:
        """Estimate a step at a context, ms; a mean spend is interpolated."""
        known = [self._known(times, action) for times in self.at]
        contexts = [times.context for times in self.at]
        last = min(int(np.searchsorted(contexts, context)), len(contexts) - 1)
        first = max(last, 1) - 1  # nearest two; extrapolates beyond the ends
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
