"""A price per axis, with which predicted damage meets any budget.

For damage that is separable over steps and axes, the schedule of least total damage among
those of a given mean spend chooses, at every step, the level of least
``damage + price · level``, with one price per axis (Lagrange). The price of a budget is
read off a table: on sample states, the mean spend that each price leads to.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

NUM_PRICES = 161
LOG_PRICE_RANGE = (-14.0, 5.0)


@dataclass(frozen=True)
class PriceTable:
    """Mean spend (share of dense) against log price (nats per unit of spend), one axis.

    Attributes:
        log_prices: ascending.
        spends: falling, as long.

    A measured table holds what its JSON holds: training that resumes from a checkpoint, and
    every user of the policy, then choose by the same prices to the last bit.
    """

    log_prices: tuple[float, ...]
    spends: tuple[float, ...]

    @staticmethod
    def measure(damages: Tensor, levels: Tensor) -> PriceTable:
        """Tabulate sample states.

        Args:
            damages: [M, levels], nats, of M states.
            levels: [levels] ascending, shares of dense.
        """
        log_prices = torch.linspace(*LOG_PRICE_RANGE, NUM_PRICES, dtype=torch.float64)
        damages, levels = falling(damages).double(), levels.double()
        spends = [
            round(float(levels[choose_levels(damages, levels, price)].mean()), 8)
            for price in log_prices.exp()
        ]
        return PriceTable(tuple(round(value, 6) for value in log_prices.tolist()), tuple(spends))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(record: dict[str, Any]) -> PriceTable:
        """Raises: ValueError or KeyError when the record is not a table."""
        log_prices = tuple(float(value) for value in record["log_prices"])
        spends = tuple(float(value) for value in record["spends"])
        if len(log_prices) != len(spends) or len(spends) < 2:
            raise ValueError("a price table needs as many spends as prices, at least two")
        if not all(map(math.isfinite, log_prices + spends)):
            raise ValueError("a price table may only hold finite numbers")
        return PriceTable(log_prices, spends)


def falling(damages: Tensor) -> Tensor:
    """Damage that never rises with the level: [..., levels]."""
    return damages.cummin(-1).values


def choose_levels(damages: Tensor, levels: Tensor, prices: Tensor | float) -> Tensor:
    """Index of the level of least ``damage + price · level``: [..., levels] → [...]."""
    price = torch.as_tensor(prices, dtype=damages.dtype, device=damages.device)
    return (damages + price[..., None] * levels).argmin(-1)


def aim_for(targets: Tensor, excess: Tensor, shares: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    """The mean spend to aim for now: the request, less a share of the overspending so far.

    Args:
        targets: [..., axes], requested mean.
        excess: [..., axes], spend so far minus target, summed over the steps.
        shares: [..., axes], of the excess that a step compensates.
        ends: [axes] each, the axes' lowest and highest levels; the aim is clipped to them.
    """
    return (targets - excess * shares).clamp(*ends)
