"""Static mixes: levels of attention and MLP with the least damage at a share of the dense bytes.

Damage is measured per axis and added, minus a floor that both axes include. The mixes worth
choosing at a context are the corners of the lower convex hull of (share of bytes, damage) over all
pairs of levels; shares between two corners alternate. Cached tokens are 6 % of a dense step's bytes
after 256 tokens and 65 % after 8,000 (default model, 4-bit blocks).
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, compress, pairwise
from math import ceil, isfinite, log, log2
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from sol_core.actions import (
    GRIDS,
    MAX_BITS,
    OWN_GRID,
    PAPER,
    Action,
    ActionGrid,
    Budget,
    Mechanisms,
)
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError
from sol_core.fields import from_json
from sol_core.model_tables.tables import SHIPPED_DAMAGE

if TYPE_CHECKING:
    from sol_core.models import FrozenLM
    from sol_core.models.loading import LanguageModel

_ANY_DROP = Action(bit_width=MAX_BITS - 1)
Levels = tuple[float, ...]  # a number for each level of an axis
# Contexts of the same page use the same mixes; beyond SHORTEST, those within this ratio.
SHORTEST, CONTEXT_STEP = 64, 1.02
# Cache of recent models and grids: 100 tokens after 256 need 17 hulls of 0.7 ms each.
_MOST_KEPT = 8
_kept: list[MixTable] = []


@dataclass(frozen=True, slots=True)
class DamageTable:
    """Mean KL to the dense step, nats, at each level of attention and MLP alone."""

    contexts: tuple[int, ...]  # tokens before the first step, ascending
    keep_fractions: Levels  # ascending
    channel_keep_ratios: Levels  # ascending
    attention: tuple[Levels, ...]  # [contexts][levels]
    channels: tuple[Levels, ...]  # [contexts][levels]
    tokens: int  # scored tokens per number

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

    def with_levels(self, keep: Sequence[float], channels: Sequence[float]) -> DamageTable:
        """Select the levels that a grid has."""

        def take(
            levels: Levels, rows: tuple[Levels, ...], wanted: Sequence[float]
        ) -> tuple[Levels, tuple[Levels, ...]]:
            kept = [level in wanted for level in levels]
            return tuple(compress(levels, kept)), tuple(tuple(compress(row, kept)) for row in rows)

        fractions, attention = take(self.keep_fractions, self.attention, keep)
        ratios, mlp = take(self.channel_keep_ratios, self.channels, channels)
        return DamageTable(self.contexts, fractions, ratios, attention, mlp, self.tokens)

    def at(self, context: int) -> tuple[Levels, Levels]:
        """Damage of attention's and the MLP's levels: interpolated in log context, flat beyond the
        measured contexts, and never rising with a level."""
        position, knots, made = log2(max(context, 1)), np.log2(self.contexts), list[Levels]()
        for rows in (self.attention, self.channels):
            damages = [np.interp(position, knots, level) for level in zip(*rows, strict=True)]
            made.append(tuple(accumulate(map(float, damages), min)))
        return made[0], made[1]


def damage_table(grid: ActionGrid, fingerprint: str = "") -> tuple[DamageTable, str]:
    """Return a grid's shipped table and its model: the fingerprint's, else the default model's."""
    name, models = mechanisms_name(grid), _shipped()
    for record in (*(entry for entry in models if entry["fingerprint"] == fingerprint), models[0]):
        if name in record["damage"]:
            return from_json(DamageTable, record["damage"][name], "damage"), record["model"]
    raise ConfigError(
        f"no damage was measured for the grid {grid}: give a budget per axis, or use the grid "
        + " or ".join(models[0]["damage"])
    )


def decoder_mixes(lm: FrozenLM, grid: ActionGrid) -> MixTable:
    """Return the mixes of a decoder under a grid. Raises: see ``damage_table``."""
    return _mixes(lm, grid, *damage_table(grid))


def mix_table(model: LanguageModel, grid: ActionGrid) -> MixTable:
    """Return the mixes of a model under a grid. Raises: see ``damage_table``."""
    own = model.damage.get(mechanisms_name(grid))
    if own is not None:
        return _mixes(model.lm, grid, from_json(DamageTable, own, "damage"), model.name)
    table, measured_on = damage_table(grid, model.fingerprint)
    if has_own_damage(model, grid):
        measured_on = model.name  # not the name of another file with the same weights
    return _mixes(model.lm, grid, table, measured_on)


def has_own_damage(model: LanguageModel, grid: ActionGrid) -> bool:
    """Return whether this model's damage is known: shipped, or measured on this machine."""
    name = mechanisms_name(grid)
    shipped = any(
        entry["fingerprint"] == model.fingerprint and name in entry["damage"]
        for entry in _shipped()
    )
    return shipped or name in model.damage


def _mixes(lm: FrozenLM, grid: ActionGrid, table: DamageTable, measured_on: str) -> MixTable:
    damage = table.with_levels(grid.keep_fractions, grid.channel_keep_ratios)
    made = MixTable(damage, CostModel.of(lm, grid), measured_on)
    for kept in list(_kept):
        if kept.inputs == made.inputs:
            return kept
    _kept.append(made)
    del _kept[:-_MOST_KEPT]
    return made


def mechanisms_name(grid: ActionGrid) -> str:
    """Return the named grid with the same mechanisms, which decide the damage of a level."""
    how = _at_16_bits(grid.mechanisms)
    names = (name for name, entry in GRIDS.items() if _at_16_bits(entry.mechanisms) == how)
    return next(names, OWN_GRID)


def _at_16_bits(how: Mechanisms) -> Mechanisms:
    """Mechanisms without those of quantisation: damage is measured at 16 bits."""
    return replace(how, quant_site=PAPER.quant_site, quant_block=PAPER.quant_block)


@cache
def _shipped() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(SHIPPED_DAMAGE.read_text("utf-8"))["models"])


@dataclass(frozen=True, slots=True)
class Mix:
    """A corner of the hull."""

    share: float  # of a dense step's bytes
    damage: float  # predicted mean KL to the dense step, nats
    action: Action  # with 16 bits


class MixTable:
    """Mixes of one model under one grid, computed per context on first use."""

    def __init__(self, damage: DamageTable, costs: CostModel, measured_on: str) -> None:
        self._damage, self.costs = damage, costs
        self.measured_on = measured_on  # name of the model that ``damage`` was measured on
        self.levels = damage.keep_fractions, damage.channel_keep_ratios
        self._head_bytes_saved = costs.head_bytes_saved(_ANY_DROP)
        self.inputs = damage, costs, measured_on  # determine the mixes
        self._hulls: dict[int, tuple[Mix, ...]] = {}

    def hull(self, context: int) -> tuple[Mix, ...]:
        """Return the mixes after ``context`` tokens, by ascending share; the last one is dense."""
        if context > SHORTEST:
            step = ceil(log(context / SHORTEST, CONTEXT_STEP))
            made_at = round(SHORTEST * CONTEXT_STEP**step)
        else:
            made_at = self.costs.page_size * max(ceil(context / self.costs.page_size), 1)
        if made_at not in self._hulls:
            self._hulls[made_at] = self._make(made_at)
        return self._hulls[made_at]

    def damage_and_bytes(self, context: int) -> tuple[tuple[Levels, Levels], ...]:
        """Return per axis the damage of each level, and the bytes that it adds to a dense step's as
        a share of them (0 or less), without the head's."""
        costs, dense, made = self.costs, self.costs.dense_step(context).bytes_read, []
        for axis, damages in enumerate(self._damage.at(context)):
            beyond = []
            for level in self.levels[axis]:
                action = Action.at(*((level, 1.0) if axis == 0 else (1.0, level)), MAX_BITS)
                read = costs.decode_step(action, context).bytes_read - dense
                beyond.append((read + costs.head_bytes_saved(action)) / dense)
            made.append((damages, tuple(beyond)))
        return tuple(made)

    def floor(self, context: int) -> float:
        """Damage of the smallest drop, nats: rounding, which both axes include."""
        attention, channels = self._damage.at(context)
        return min([*attention[-2:-1], *channels[-2:-1]], default=0.0)

    def head_share_saved(self, context: int) -> float:
        """Share of the dense bytes that a compressed step saves at the head."""
        return self._head_bytes_saved / self.costs.dense_step(context).bytes_read

    def lowest_share(self, context: int) -> float:
        """Return the smallest share of any mix after so many tokens."""
        return self.hull(context)[0].share

    def check(self, share: float | None, context: int) -> None:
        """Raise ConfigError for a share below that of every mix after so many tokens."""
        lowest = self.lowest_share(context)
        if share is not None and share < lowest - 1e-9:
            raise ConfigError(
                f"after a context of {context:,} at least {100 * lowest:.0f} % of the full model's "
                f"bytes are read, got {100 * share:.4g} %: ask for more, or use a longer context"
            )

    def neighbours(self, share: float, context: int, bits: float = MAX_BITS) -> tuple[Mix, Mix]:
        """Return the mixes below and above a share; below the lowest mix, that one twice.

        With fewer than ``MAX_BITS`` bits, the dense mix previews the head as the others do.
        """
        hull = self.hull(context)
        upper = min(bisect_left(hull, share, key=attrgetter("share")), len(hull) - 1)
        low, high = hull[max(upper - 1, 0)], hull[upper]
        if bits < MAX_BITS and high.action.is_dense:
            high = replace(high, share=high.share - self.head_share_saved(context))
        return low, high

    def share_at(self, damage: float, context: int) -> float:
        """Smallest share whose predicted damage is at most ``damage`` (nats per token)."""
        hull = self.hull(context)
        index = next(at for at, mix in enumerate(hull) if mix.damage <= damage)
        if index == 0:
            return hull[0].share
        low, high = hull[index - 1 : index + 1]
        weight = (low.damage - damage) / (low.damage - high.damage)
        return low.share + weight * (high.share - low.share)

    def budget_per_axis(self, budget: Budget, context: int) -> Budget:
        """Return the mean spend of the mixes that meet a share. Raises: see ``check``."""
        assert budget.bytes_share is not None
        self.check(budget.bytes_share, context)
        return self.mean(budget.bytes_share, context, budget.bit_width)

    @staticmethod
    def weight(share: float, low: Mix, high: Mix) -> float:
        """Fraction of steps that take the higher of two mixes, so that their mean is the share."""
        span = high.share - low.share
        return min(max((share - low.share) / span, 0.0), 1.0) if span > 0 else 1.0

    def damage(self, budget: Budget, context: int) -> float:
        """Predicted damage of a budget per axis, nats, interpolated between levels."""
        spends = budget.keep_fraction, budget.channel_keep_ratio
        lost = [
            float(np.interp(spend, levels, damages))
            for spend, levels, (damages, _) in zip(
                spends, self.levels, self.damage_and_bytes(context), strict=True
            )
        ]
        return sum(lost) - min(self.floor(context), *lost)

    def mean(self, share: float, context: int, bits: float = 16.0) -> Budget:
        """Return the mean spend per axis of the mixes around a share."""
        low, high = self.neighbours(share, context, bits)
        weight = self.weight(share, low, high)
        a, b = low.action, high.action
        keep = a.keep_fraction + (b.keep_fraction - a.keep_fraction) * weight
        ratio = a.channel_keep_ratio + (b.channel_keep_ratio - a.channel_keep_ratio) * weight
        return Budget(keep, ratio, bits)

    def _make(self, context: int) -> tuple[Mix, ...]:
        columns = []
        for levels, axis in zip(self.levels, self.damage_and_bytes(context), strict=True):
            column = np.array((levels, *axis))
            saves = column[2] < 0  # drop levels that save nothing, except the dense one
            columns.append(column[:, saves | (column[0] == levels[-1])])
        keeps, lost, read = columns[0][:, :, None]
        ratios, lost_too, read_too = columns[1]
        previewed = self.head_share_saved(context) * ((keeps < 1) | (ratios < 1))
        shares = 1 + read + read_too - previewed
        damages = lost + lost_too - np.minimum(np.minimum(lost, lost_too), self.floor(context))
        pairs = np.stack(np.broadcast_arrays(shares, damages, keeps, ratios)).reshape(4, -1).T
        return tuple(
            lower_hull(
                [
                    Mix(share, damage, Action.at(keep, ratio, MAX_BITS))
                    for share, damage, keep, ratio in pairs[pairs[:, 0] <= 1].tolist()
                ]
            )
        )


def lower_hull(mixes: Sequence[Mix]) -> list[Mix]:
    """Return the corners of the lower convex hull, by ascending share and falling damage."""
    corners: list[Mix] = []
    for mix in sorted(mixes, key=attrgetter("share", "damage")):
        if corners and mix.damage >= corners[-1].damage:
            continue
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) >= _slope(corners[-1], mix):
            corners.pop()
        corners.append(mix)
    return corners


def _slope(left: Mix, right: Mix) -> float:
    return (right.damage - left.damage) / max(right.share - left.share, 1e-12)
