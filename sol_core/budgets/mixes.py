"""Static mixes of attention and MLP: the least measured damage at a share of the dense bytes.

With damage that adds up over the axes beyond a floor that both share, the mixes worth choosing at
a context are the corners of the lower convex hull of (share of bytes, damage) over all pairs of
levels; a share between two corners takes turns between them. A mix moves with the context:
cached tokens are 6 % of a dense step's bytes after 256 tokens and 65 % after 8,000 (default model,
4-bit blocks).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from sol_core.actions import DENSE, MAX_BITS, Action, Budget
from sol_core.budgets.damage import DamageTable
from sol_core.decoding.cost import CostModel
from sol_core.decoding.step_bytes import StepBytes
from sol_core.errors import ConfigError

_ANY_DROP = Action(bit_width=MAX_BITS - 1)
CONTEXT_STEP = 1.02  # contexts that are closer to each other than this share their mixes


@dataclass(frozen=True, slots=True)
class Mix:
    """A corner of the hull.

    Attributes:
        share: of a dense step's bytes.
        damage: predicted mean KL to the dense step, nats.
        action: with 16 bits.
    """

    share: float
    damage: float
    action: Action


class MixTable:
    """The mixes of one model under one grid, by context.

    Args:
        damage: measured under that grid.
        costs: of the model's steps, by the same grid.
        measured_on: name of the model that ``damage`` was measured on.
    """

    def __init__(self, damage: DamageTable, costs: CostModel, measured_on: str) -> None:
        self._damage, self.costs, self.measured_on = damage, costs, measured_on
        self.step_bytes = StepBytes(costs)
        self._head_saving = costs.head_saving(_ANY_DROP)
        self._hulls: dict[int, tuple[Mix, ...]] = {}

    @property
    def levels(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the levels of attention and of channels that mixes are made of."""
        return self._damage.keep_fractions, self._damage.channel_keep_ratios

    def hull(self, context: int) -> tuple[Mix, ...]:
        """The mixes after so many tokens, by ascending share; the last one is dense."""
        context = max(context, 1)
        key = 0
        while context > CONTEXT_STEP**key * 64:
            key += 1
        if key not in self._hulls:
            self._hulls[key] = self._make(round(64 * CONTEXT_STEP**key) if key else context)
        return self._hulls[key]

    def per_axis(self, context: int) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
        """Of attention and channels, each level's damage, and the bytes that it reads beyond a
        dense step, as shares of that, 0 and below; a previewed head's is not among them."""
        dense = self.costs.decode_step(DENSE, context).bytes_read
        attention = [Action(keep_fraction=level) for level in self.levels[0]]
        channels = [Action(channel_keep_ratio=level) for level in self.levels[1]]
        read = [
            tuple(self._beyond(action, context) / dense for action in actions)
            for actions in (attention, channels)
        ]
        return tuple(zip(self._damage.at(context), read, strict=True))

    def _beyond(self, action: Action, context: int) -> float:
        """Bytes that a step reads beyond a dense one, with the head whole."""
        step, dense = (self.costs.decode_step(spend, context) for spend in (action, DENSE))
        return step.bytes_read + self.costs.head_saving(action) - dense.bytes_read

    def floor(self, context: int) -> float:
        """Damage of a step that drops next to nothing, nats: rounding, in bf16 about 0.001.

        A step pays it once, whichever axes it drops from.
        """
        least = (damages[-2] for damages in self._damage.at(context) if len(damages) > 1)
        return min(least, default=0.0)

    def previewed(self, context: int) -> float:
        """Bytes that every step but a dense one saves at the head, a share of the dense ones."""
        return self._head_saving / self.costs.decode_step(DENSE, context).bytes_read

    def lowest(self, context: int) -> float:
        """The least share that any mix reads after so many tokens."""
        return self.hull(context)[0].share

    def check(self, share: float, context: int) -> None:
        """Raises: ConfigError for a share that no mix reaches after so many tokens."""
        lowest = self.lowest(context)
        if share < lowest - 1e-9:
            raise ConfigError(
                f"after {context:,} tokens of context at least {100 * lowest:.0f} % of the full "
                f"model's bytes are read, got {100 * share:g} %: ask for more, or use a longer "
                "context"
            )

    def neighbours(self, share: float, context: int) -> tuple[Mix, Mix]:
        """The two mixes around a share: the lower one twice below all, the dense one above."""
        hull = self.hull(context)
        upper = bisect_left([mix.share for mix in hull], share)
        if upper == 0:
            return hull[0], hull[0]
        upper = min(upper, len(hull) - 1)
        return hull[upper - 1], hull[upper]

    def share_at(self, damage: float, context: int) -> float:
        """The least share whose mixes are predicted to lose no more than that, nats a token."""
        hull = self.hull(context)
        place = next(at for at, mix in enumerate(hull) if mix.damage <= damage)
        if place == 0:
            return hull[0].share
        low, high = hull[place - 1 : place + 1]
        part = (low.damage - damage) / (low.damage - high.damage)
        return low.share + part * (high.share - low.share)

    def mean(self, share: float, context: int, bits: float = 16.0) -> Budget:
        """Mean spend per axis of the mixes that meet a share."""
        low, high = self.neighbours(share, context)
        span = high.share - low.share
        weight = min(max((share - low.share) / span, 0.0), 1.0) if span > 0 else 1.0

        def between(field: str) -> float:
            a, b = getattr(low.action, field), getattr(high.action, field)
            return float(a + (b - a) * weight)

        return Budget(between("keep_fraction"), between("channel_keep_ratio"), bits)

    def _make(self, context: int) -> tuple[Mix, ...]:
        attention, channels = (
            [
                (level, lost, read)
                for level, lost, read in zip(levels, *axis, strict=True)
                if read < 0 or level == levels[-1]  # others drop something and save nothing
            ]
            for levels, axis in zip(self.levels, self.per_axis(context), strict=True)
        )
        floor = self.floor(context)
        previewed = self.previewed(context)
        pairs = [
            Mix(
                1 + read + read_too - (previewed if keep < 1 or ratio < 1 else 0.0),
                lost + lost_too - min(floor, lost, lost_too),
                Action(keep, ratio),
            )
            for keep, lost, read in attention
            for ratio, lost_too, read_too in channels
        ]
        return tuple(lower_hull([pair for pair in pairs if pair.share <= 1.0]))


def lower_hull(mixes: Sequence[Mix]) -> list[Mix]:
    """Corners of the lower convex hull, by ascending share and falling damage."""
    corners: list[Mix] = []
    for mix in sorted(mixes, key=lambda mix: (mix.share, mix.damage)):
        if corners and mix.damage >= corners[-1].damage:
            continue
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) >= _slope(corners[-1], mix):
            corners.pop()
        corners.append(mix)
    return corners


def _slope(left: Mix, right: Mix) -> float:
    return (right.damage - left.damage) / max(right.share - left.share, 1e-12)
