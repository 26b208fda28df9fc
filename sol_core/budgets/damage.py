"""Damage of every level of attention and MLP, by context length: a table of one model and grid.

``sol_core/comparing/damage.py`` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite, log2
from typing import Any

from sol_core.errors import ConfigError
from sol_core.fields import from_json


@dataclass(frozen=True, slots=True)
class DamageTable:
    """Mean KL to the dense step, nats, of the levels of two axes.

    Attributes:
        contexts: tokens before the first step, ascending.
        keep_fractions, channel_keep_ratios: levels, ascending; the last one is 1, without damage.
        attention, channels: [contexts][levels].
        tokens: scored for every number.
    Raises: ConfigError when the sizes do not fit, or a number is not finite.
    """

    contexts: tuple[int, ...]
    keep_fractions: tuple[float, ...]
    channel_keep_ratios: tuple[float, ...]
    attention: tuple[tuple[float, ...], ...]
    channels: tuple[tuple[float, ...], ...]
    tokens: int

    def __post_init__(self) -> None:
        if not self.contexts or any(b <= a for a, b in pairwise(self.contexts)):
            raise ConfigError(f"contexts must ascend, got {self.contexts}")
        for levels, rows in (
            (self.keep_fractions, self.attention),
            (self.channel_keep_ratios, self.channels),
        ):
            sizes = {len(row) for row in rows} | {len(levels)}
            numbers = [value for row in (levels, *rows) for value in row]
            if (
                len(rows) != len(self.contexts)
                or len(sizes) != 1
                or not all(map(isfinite, numbers))
            ):
                raise ConfigError("a damage table needs a finite number per context and level")

    @classmethod
    def from_dict(cls, record: Any) -> DamageTable:
        """Read the JSON form. Raises: ConfigError when it is damaged."""
        return from_json(cls, record, "damage")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    def of_levels(self, keep: Sequence[float], channels: Sequence[float]) -> DamageTable:
        """The table of those levels that a grid has too, so that a mix is of the grid's levels."""

        def take(
            levels: tuple[float, ...], rows: tuple[tuple[float, ...], ...], wanted: Sequence[float]
        ) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
            places = [place for place, level in enumerate(levels) if level in wanted]
            return tuple(levels[place] for place in places), tuple(
                tuple(row[place] for place in places) for row in rows
            )

        fractions, attention = take(self.keep_fractions, self.attention, keep)
        ratios, mlp = take(self.channel_keep_ratios, self.channels, channels)
        return DamageTable(self.contexts, fractions, ratios, attention, mlp, self.tokens)

    def at(self, context: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Damage of the levels of attention and of channels, interpolated in log context.

        Beyond its ends the table is flat. A higher level never costs more than a lower one.
        """
        place = log2(max(context, 1))
        knots = [log2(known) for known in self.contexts]
        upper = next((i for i, knot in enumerate(knots) if knot >= place), len(knots) - 1)
        lower = max(upper - 1, 0)
        span = knots[upper] - knots[lower]
        share = min(max((place - knots[lower]) / span, 0.0), 1.0) if span else 1.0

        def mixed(rows: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
            pairs = zip(rows[lower], rows[upper], strict=True)
            return _falling([a + (b - a) * share for a, b in pairs])

        return mixed(self.attention), mixed(self.channels)


def _falling(damages: Sequence[float]) -> tuple[float, ...]:
    """Damage that never rises with the level."""
    falling, least = [], float("inf")
    for damage in damages:
        least = min(least, damage)
        falling.append(least)
    return tuple(falling)
