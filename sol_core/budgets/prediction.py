"""Predicts a budget's damage and speed before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sol_core.actions import DENSE, Action, Budget
from sol_core.budgets.mixes import MixTable
from sol_core.models.step.times import StepTimes
from sol_core.reporting.verdict import BROKEN_KL, SAME_KL

Zone = Literal["same text", "small changes", "will break"]
ZONES: tuple[Zone, ...] = get_args(Zone)
# Damage (nats per token) up to which 40 tokens match the full model's, and up to which most do.
ZONE_ENDS = (SAME_KL, BROKEN_KL)
# Damage of rounding alone, by bits, with a scale per block (docs/results.md).
_BITS = (3.0, 4.0, 5.0, 6.0, 8.0, 16.0)
_BITS_DAMAGE = (0.87, 0.18, 0.058, 0.011, 0.0007, 0.0)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Estimates for a budget at a context.

    Attributes:
        share: bytes as a share of a dense step's.
        damage: mean KL to the full model, nats per token.
        zone: effect of that damage on a text.
        speed: multiple of the full model's tokens per second on this machine; None if no steps
            were timed.
        tokens_per_s: likewise, absolute.
    """

    share: float
    damage: float
    zone: Zone
    speed: float | None = None
    tokens_per_s: float | None = None

    @property
    def words(self) -> str:
        """Describe zone, damage and speed."""
        text = f"{self.zone} (KL {self.damage:.2g} nats a token)"
        return f"{text}, {self.speed_words} here (estimate)" if self.speed_words else text

    @property
    def speed_words(self) -> str:
        """Describe the speed; "" if unknown."""
        if self.speed is None:
            return ""
        if abs(self.speed - 1) < 0.05:
            return "the full model's speed"
        return f"{self.speed:.1f} times the full model's speed"


def predict_step(
    mixes: MixTable, times: StepTimes | None, budget: Budget, context: int
) -> Prediction:
    """Predict a step that attends over ``context`` tokens, the new token included.

    Args:
        times: of steps on this machine; None leaves the speed unknown.
    Raises: ConfigError for a share below that of every mix.
    """
    taken: list[tuple[Action | Budget, float]]  # and how often
    share = budget.bytes_share
    if share is None:
        damage, share = mixes.damage(budget, context), mixes.costs.bytes_share(budget, context)
        taken = [(budget, 1.0)]
    else:
        mixes.check(share, context)
        low, high = mixes.neighbours(share, context)
        weight = mixes.weight(share, low, high)
        damage = low.damage + (high.damage - low.damage) * weight
        taken = [(low.action, 1.0 - weight), (high.action, weight)]
    if mixes.costs.mechanisms.quant_block:
        damage += float(np.interp(budget.bit_width, _BITS, _BITS_DAMAGE))
    zone = ZONES[int(np.searchsorted(ZONE_ENDS, damage, side="left"))]
    if times is None:
        return Prediction(share, damage, zone)
    step_ms = sum(part * times.step_ms(action, context) for action, part in taken)
    dense_ms = times.step_ms(DENSE, context)
    return Prediction(share, damage, zone, dense_ms / step_ms, 1000 / step_ms)
