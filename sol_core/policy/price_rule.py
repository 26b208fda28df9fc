"""The price rule on all axes at once: predicted damage and aims → a logit for every level.

A decode step asks it for a single row, where each tensor operation costs as much as its
work on a hundred rows would; so the axes share operations, a shorter one padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kernels.policy_step import NEVER
from sol_core.policy.prices import PriceTable, falling

AT_END = 1e-6  # share of dense
FORCE = 100.0  # unit of cost per unit of spend
APART = 4.0  # axes in one table: more than any spend, and exact in floating point


def padded_levels(levels: Sequence[Tensor]) -> Tensor:
    """Levels of each axis → [axes, levels of the longest], the end of a shorter one NEVER."""
    return pad_sequence(list(levels), batch_first=True, padding_value=NEVER)


class PriceRule:
    """Prices and levels of some axes, as tensors.

    Args:
        levels: of each axis, ascending, shares of dense.
        tables: of each axis.
    """

    def __init__(self, levels: Sequence[Tensor], tables: Sequence[PriceTable]) -> None:
        self._levels = padded_levels(levels)
        low = torch.stack([values[0] for values in levels])[:, None]
        high = torch.stack([values[-1] for values in levels])[:, None]
        self._low, self._high = low + AT_END, high - AT_END
        # What an aim at an end of an axis makes of its levels' costs.
        self._cost_at_low = FORCE * (self._levels - low)
        self._cost_at_high = FORCE * (high - self._levels).where(self._levels <= high, NEVER)
        self._ends = (self._low[:, 0].cpu().numpy(), self._high[:, 0].cpu().numpy())
        self._starts = APART * np.arange(len(tables))
        # The axes' tables behind one another, by falling spend; beyond its ends each is flat.
        self._places = np.concatenate(
            [
                start + np.array([-1.5, *(-spend for spend in table.spends), 1.0])
                for start, table in zip(self._starts, tables, strict=True)
            ]
        )
        self._log_prices = np.concatenate(
            [(t.log_prices[0], *t.log_prices, t.log_prices[-1]) for t in tables]
        )

    def price(self, aims: Tensor) -> Tensor:
        """Prices that make the mean spend meet each aim, by interpolation.

        Args:
            aims: [..., axes], shares of dense.
        Returns: the same shape, nats per unit of spend.
        """
        places = self._starts - aims.detach().cpu().numpy()
        log_prices = np.interp(places, self._places, self._log_prices)
        return torch.from_numpy(np.exp(log_prices).astype(np.float32)).to(aims.device)

    def arrays(self) -> tuple[Any, ...]:
        """Everything it knows as numpy, in the order of ``kernels.policy_step``'s Prices."""
        tensors = (self._levels, self._cost_at_low, self._cost_at_high)
        costs = [tensor.cpu().numpy() for tensor in tensors]
        return (*costs, *self._ends, self._starts, self._places, self._log_prices)

    def logits(self, damages: Tensor, aims: Tensor, sharpness: Tensor) -> Tensor:
        """Unnormalised log probabilities; the greatest is the choice at the aims' prices.

        Args:
            damages: [..., axes, levels], nats, padded with the last level's.
            aims: [..., axes], shares of dense.
            sharpness: [axes], logits per unit of spend.
        Returns: like damages; 0 for the choice.
        """
        # In units of spend, so that how sure a choice is does not depend on the budget.
        cost = falling(damages) / self.price(aims)[..., None] + self._levels
        known, (lowest, highest) = aims.detach().cpu().numpy(), self._ends
        if (known <= lowest).any() or (known >= highest).any():
            # An aim at an end of the axis leaves nothing to choose, whatever is predicted.
            aim = aims[..., None]
            cost = torch.where(aim >= self._high, self._cost_at_high, cost)
            cost = torch.where(aim <= self._low, self._cost_at_low, cost)
        return (cost.amin(-1, keepdim=True).detach() - cost) * sharpness[:, None]
