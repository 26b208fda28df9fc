"""The price rule on all axes at once: predicted damage and aims → a logit for every level.

A decode step asks it for a single row, where each tensor operation costs as much as its
work on a hundred rows would; so the axes share operations, a shorter one padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sol_core.policy.prices import PriceTable, falling

__all__ = ["PriceRule", "padded_levels"]

AT_END = 1e-6  # share of dense
FORCE = 100.0  # unit of cost per unit of spend
# Cost of a level that an axis does not have. Finite: an infinite one has no gradient.
NEVER = 1e6


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
        missing = self._levels == NEVER
        low = torch.stack([values[0] for values in levels])[:, None]
        high = torch.stack([values[-1] for values in levels])[:, None]
        self._low, self._high = low + AT_END, high - AT_END
        # What an aim at an end of an axis makes of its levels' costs.
        self._cost_at_low = FORCE * (self._levels - low)
        self._cost_at_high = (FORCE * (high - self._levels)).masked_fill(missing, NEVER)
        length = max(len(table.spends) for table in tables)
        rising = [_rising(table, length) for table in tables]
        device = low.device
        self._spends = torch.stack([spends for spends, _ in rising]).to(device)
        self._segments = torch.stack([segments for _, segments in rising]).to(device)
        self._axes = torch.arange(len(tables), device=device)[:, None]

    def price(self, aims: Tensor) -> Tensor:
        """Prices that make the mean spend meet each aim, by interpolation.

        Args:
            aims: [..., axes], shares of dense.
        Returns: the same shape, nats per unit of spend.
        """
        flat = aims.detach().double().reshape(-1, aims.shape[-1]).t().contiguous()
        upper = torch.searchsorted(self._spends, flat).clamp(max=self._spends.shape[1] - 1)
        start, width, log_price, rise = self._segments[self._axes, upper].unbind(-1)
        share = ((flat - start) / width).clamp(0, 1)
        return (log_price + share * rise).exp().float().t().reshape(aims.shape)

    def logits(self, damages: Tensor, aims: Tensor, sharpness: Tensor) -> Tensor:
        """Unnormalised log probabilities; the greatest is the choice at the aims' prices.

        Args:
            damages: [..., axes, levels], nats, padded with the last level's.
            aims: [..., axes], shares of dense.
            sharpness: [axes], logits per unit of spend.
        Returns: like damages; 0 for the choice.
        """
        aim = aims[..., None]
        # In units of spend, so that how sure a choice is does not depend on the budget.
        cost = falling(damages) / self.price(aims)[..., None] + self._levels
        # An aim at an end of the axis leaves nothing to choose, whatever is predicted.
        cost = torch.where(aim >= self._high, self._cost_at_high, cost)
        cost = torch.where(aim <= self._low, self._cost_at_low, cost)
        return (cost.amin(-1, keepdim=True).detach() - cost) * sharpness[:, None]


def _rising(table: PriceTable, length: int) -> tuple[Tensor, Tensor]:
    """A table from the least spend up, its end repeated to some length.

    Returns: spends [length]; of the segment that ends there, [length, 4]: the spend where it
        starts, how wide it is, the log price where it starts, and its rise.
    """
    missing = length - len(table.spends)
    spends, log_prices = (
        torch.tensor(values[:1] * missing + values, dtype=torch.float64).flip(0)
        for values in (table.spends, table.log_prices)
    )
    segments = torch.stack(
        (spends[:-1], spends.diff().clamp(min=1e-12), log_prices[:-1], log_prices.diff()), -1
    )
    return spends, torch.cat((segments[:1], segments))  # below the first spend: its price
