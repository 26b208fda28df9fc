"""The feedback by which schedules keep a mean spend at what was requested."""

from __future__ import annotations

from math import inf
from typing import Any


class Feedback:
    """Aims of the next step, so that means end at their targets.

    A schedule spends unevenly on purpose, so overspending is compensated slowly.

    Attributes:
        targets: requested means, an array or tensor of any shape.
        excess: spent beyond them so far, of the same shape.

    Args:
        steps: over which an excess is compensated.
        slack: an excess beyond it is compensated over ``sooner_steps``.
    """

    def __init__(
        self, targets: Any, steps: float, *, slack: float = inf, sooner_steps: float = 1.0
    ) -> None:
        self.targets, self.excess = targets, 0 * targets
        self._steps, self._slack, self._sooner_steps = steps, slack, sooner_steps

    def next_targets(self) -> Any:
        beyond = self.excess - self.excess.clip(-self._slack, self._slack)
        return self.targets - self.excess / self._steps - beyond / self._sooner_steps

    def add(self, spent: Any) -> None:
        """Account for one more step."""
        self.excess = self.excess + (spent - self.targets)
