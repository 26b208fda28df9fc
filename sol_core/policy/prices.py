"""A policy's measured tables: prices per axis, and where it gains over static.

At a given mean spend, the schedule of least damage takes at each step the level of least
``damage + price · level`` (Lagrange). A table maps each price to the resulting mean spend.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kernels.policy_step import NEVER
from sol_core.errors import ConfigError

NUM_PRICES = 161
LOG_PRICE_RANGE = (-14.0, 5.0)
AT_END = 1e-6  # fraction of dense
FORCE = 100.0  # unit of cost per unit of spend
# All axes are in one table for ``np.interp``, axis n shifted by n times this, which exceeds any
# spend and is exact in floating point.
AXIS_OFFSET = 4.0


@dataclass(frozen=True)
class PriceTable:
    """An axis's mean spend (fraction of dense) by log price, rounded as in its JSON."""

    log_prices: tuple[float, ...]  # ascending
    spends: tuple[float, ...]  # falling, as long

    def __post_init__(self) -> None:
        if len(self.log_prices) != len(self.spends) or len(self.spends) < 2:
            raise ValueError("a price table needs as many spends as prices, at least two")

    @staticmethod
    def measure(damages: Tensor, levels: Tensor) -> PriceTable:
        """Tabulate M sample states; damages: [M, levels], nats."""
        log_prices = torch.linspace(*LOG_PRICE_RANGE, NUM_PRICES, dtype=torch.float64)
        damages, levels = non_increasing(damages).double(), levels.double()
        spends = [
            round(float(levels[choose_levels(damages, levels, price)].mean()), 8)
            for price in log_prices.exp()
        ]
        return PriceTable(tuple(round(value, 6) for value in log_prices.tolist()), tuple(spends))


def non_increasing(damages: Tensor) -> Tensor:
    """Make damage non-increasing in the level: [..., levels]."""
    return damages.cummin(-1).values


def choose_levels(damages: Tensor, levels: Tensor, prices: Tensor | float) -> Tensor:
    """Return the index of the least ``damage + price · level``: [..., levels] → [...]."""
    price = torch.as_tensor(prices, dtype=damages.dtype, device=damages.device)
    return (damages + price[..., None] * levels).argmin(-1)


def padded_levels(levels: Sequence[Tensor]) -> Tensor:
    """Stack the axes' levels to [axes, most levels], padded with NEVER."""
    return pad_sequence(list(levels), batch_first=True, padding_value=NEVER)


class PriceRule:
    """Prices and levels of some axes, as tensors."""

    def __init__(self, levels: Sequence[Tensor], tables: Sequence[PriceTable]) -> None:
        self._levels = padded_levels(levels)
        low = torch.stack([values[0] for values in levels])[:, None]
        high = torch.stack([values[-1] for values in levels])[:, None]
        self._low, self._high = low + AT_END, high - AT_END
        # Costs of levels if the aim is at an end of the axis.
        self._cost_at_low = FORCE * (self._levels - low)
        self._cost_at_high = FORCE * (high - self._levels).where(self._levels <= high, NEVER)
        self._ends = (self._low[:, 0].cpu().numpy(), self._high[:, 0].cpu().numpy())
        self._starts = AXIS_OFFSET * np.arange(len(tables))
        # The axes' tables in sequence, by falling spend, flat beyond their ends.
        self._positions = np.concatenate(
            [
                start + np.array([-1.5, *(-spend for spend in table.spends), 1.0])
                for start, table in zip(self._starts, tables, strict=True)
            ]
        )
        self._log_prices = np.concatenate(
            [(t.log_prices[0], *t.log_prices, t.log_prices[-1]) for t in tables]
        )

    def price(self, aims: Tensor) -> Tensor:
        """Return prices, nats per unit of spend, at which mean spends meet aims [..., axes]."""
        positions = self._starts - aims.detach().cpu().numpy()
        log_prices = np.interp(positions, self._positions, self._log_prices)
        return torch.from_numpy(np.exp(log_prices).astype(np.float32)).to(aims.device)

    def arrays(self) -> tuple[Any, ...]:
        """Return its arrays in the order of ``kernels.policy_step``'s Prices."""
        tensors = (self._levels, self._cost_at_low, self._cost_at_high)
        costs = [tensor.cpu().numpy() for tensor in tensors]
        return (*costs, *self._ends, self._starts, self._positions, self._log_prices)

    def logits(self, damages: Tensor, aims: Tensor, sharpness: Tensor) -> Tensor:
        """Return unnormalised log probabilities; the greatest is the choice at the aims' prices."""
        # In units of spend, so that the distribution's sharpness does not depend on the budget.
        cost = non_increasing(damages) / self.price(aims)[..., None] + self._levels
        known, (lowest, highest) = aims.detach().cpu().numpy(), self._ends
        if (known <= lowest).any() or (known >= highest).any():
            # An aim at an end of the axis leaves no choice.
            aim = aims[..., None]
            cost = torch.where(aim >= self._high, self._cost_at_high, cost)
            cost = torch.where(aim <= self._low, self._cost_at_low, cost)
        return (cost.amin(-1, keepdim=True).detach() - cost) * sharpness[:, None]


@dataclass(frozen=True, slots=True)
class GainTable:
    """Lower bound of the fraction of static's KL that a policy recovers, by context and share."""

    contexts: tuple[float, ...]  # tokens before the first step, ascending
    shares: tuple[float, ...]  # of a dense step's bytes, the policy's included, ascending
    recovered: tuple[tuple[float, ...], ...]  # [contexts][shares], lower ends of 95 % intervals

    def __post_init__(self) -> None:
        for knots in (self.contexts, self.shares):
            if not knots or list(knots) != sorted(set(knots)) or knots[0] <= 0:
                raise ConfigError(f"contexts and shares must ascend above 0, got {knots}")
        widths = [len(row) for row in self.recovered]
        is_finite = all(math.isfinite(gain) for row in self.recovered for gain in row)
        if widths != [len(self.shares)] * len(self.contexts) or not is_finite:
            raise ConfigError("gains need a finite number per context and share")

    def pays(self, context: int, share: float) -> bool:
        """Return whether gains are positive at the nearest context (in ratio), at both neighbours
        of a share between two."""
        recovered = self.recovered[self.contexts.index(self.nearest(context))]
        return all(recovered[column] > 0 for column in _neighbouring_knots(self.shares, share))

    def nearest(self, context: int) -> float:
        """Return the measured context that is nearest in ratio."""
        return min(self.contexts, key=lambda known: abs(math.log(known / max(context, 1))))


def _neighbouring_knots(knots: Sequence[float], at: float) -> set[int]:
    """Return the knots around a value, or the one at or nearest to it."""
    right = bisect_left(knots, at - 1e-9)
    if right == len(knots):
        return {right - 1}
    is_there = right == 0 or knots[right] <= at + 1e-9
    return {right} if is_there else {right - 1, right}
