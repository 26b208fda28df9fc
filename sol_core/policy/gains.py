"""Gains of a policy over static, by context and share: they decide where it is run.

Its own bytes are counted (``evaluation/gains.py``).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from sol_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class GainTable:
    """KL that a policy surely recovers of static's, by context and share of the bytes.

    Attributes:
        contexts: tokens before the first step, ascending.
        shares: of a dense step's bytes, the policy's own counted, ascending.
        recovered: [contexts][shares], lower ends of 95 % intervals: 0.1 for a tenth.
    """

    contexts: tuple[float, ...]
    shares: tuple[float, ...]
    recovered: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for knots in (self.contexts, self.shares):
            if not knots or list(knots) != sorted(set(knots)) or knots[0] <= 0:
                raise ConfigError(f"contexts and shares must ascend above 0, got {knots}")
        widths = [len(row) for row in self.recovered]
        is_finite = all(math.isfinite(gain) for row in self.recovered for gain in row)
        if widths != [len(self.shares)] * len(self.contexts) or not is_finite:
            raise ConfigError("gains need a finite number per context and share")

    def pays(self, context: int, share: float) -> bool:
        """Return whether more than nothing is recovered at the context nearest in ratio, and on
        both sides of a share that lies between two."""
        recovered = self.recovered[self.contexts.index(self.nearest(context))]
        return all(recovered[column] > 0 for column in _neighbouring_knots(self.shares, share))

    def nearest(self, context: int) -> float:
        """Return the measured context that is nearest in ratio."""
        return min(self.contexts, key=lambda known: abs(math.log(known / max(context, 1))))


def _neighbouring_knots(knots: Sequence[float], at: float) -> set[int]:
    """The knots next to a value: two of them, or the one that it is at or beyond."""
    right = bisect_left(knots, at - 1e-9)
    if right == len(knots):
        return {right - 1}
    is_there = right == 0 or knots[right] <= at + 1e-9
    return {right} if is_there else {right - 1, right}
