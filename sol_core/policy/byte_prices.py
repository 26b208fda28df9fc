"""One price on bytes for attention and MLP: how a policy spends a share of the dense bytes.

The schedule of least damage takes, at each step and on both axes, the level of least ``damage +
price · bytes`` (Lagrange). A level's mean damage is measured (``sol_core/budgets``); the network
predicts the factor by which a step differs. The price for a share follows from sample states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.policy_step import ByteTerms, damages_beyond
from sol_core.actions import ActionGrid
from sol_core.budgets.mixes import MixTable
from sol_core.fields import from_json
from sol_core.policy.prices import LOG_PRICE_RANGE

Floats = NDArray[np.float64]
LogDamages = Callable[[Floats], Floats]

BYTE_AXES = ("keep_fraction", "channel_keep_ratio")  # the fields whose levels change bytes
NUM_FEATURES = 3 + 3 * len(BYTE_AXES)  # see ``history_features``
RIDGE = 1.0  # weight of the prior (no influence), in states
MAX_GROUPS, STATES_PER_CONTEXT = 6, 64
SHORTEST = 64  # tokens; the cache is 1 % of the bytes there
CONTEXT_STEP = 1.15  # contexts within this ratio use the same prices
NUM_BYTE_PRICES = 81  # entries of the table, which is rebuilt as the context grows
LEAST_DAMAGE = 1e-3  # nats; less is bf16 rounding
# Separates levels without damage beyond the floor, so that high shares use the highest levels;
# dense steps among compressed ones would pay the floor, too.
NEXT_TO_NOTHING = 1e-6  # nats, at the lowest level
_NO_DAMAGE = 1e-9  # nats; avoids the logarithm of 0


@dataclass(frozen=True, slots=True)
class SampleStates:
    """Sensitivity and slope of both axes, as predicted in the policy's own episodes.

    After compressed steps, the network predicts more damage for any token. The part explained by
    the episode's history is fitted and subtracted; the rest counts as far as damage followed it.
    """

    history: tuple[tuple[tuple[float, ...], ...], ...]
    trust: tuple[float, ...]  # [axes], weight of the rest, 0 to 1
    contexts: tuple[float, ...]  # per group, tokens before its episodes, ascending
    shapes: tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]

    def __post_init__(self) -> None:
        for group in (self.history, *self.shapes):
            numbers = np.asarray(group, dtype=np.float64)
            if numbers.shape[1:] != (len(BYTE_AXES), 2) or not np.isfinite(numbers).all():
                raise ValueError("sample states are two finite numbers for each of two axes")
        if len(self.history) != NUM_FEATURES:
            raise ValueError(f"an episode's history has {NUM_FEATURES} features")
        if len(self.trust) != len(BYTE_AXES) or not all(0 <= trust <= 1 for trust in self.trust):
            raise ValueError(f"an axis is trusted by 0 to 1, got {self.trust}")
        if not self.contexts or len(self.contexts) != len(self.shapes):
            raise ValueError("sample states need a group for each context, at least one")

    @staticmethod
    def of(
        shapes: Floats,  # [E, T, axes, 2], the network's predictions
        spends: Floats,  # [E, T, axes], levels taken, fractions of dense
        contexts: Floats,  # [E], tokens before each episode
        damages: Floats,  # [E, T], KL to the dense step, nats
        log_damages: LogDamages,  # at those levels, from shapes: [E, T, axes, 2] → [E, T]
        texts: int = 1,
    ) -> SampleStates:
        """Fit the history of some episodes, and sample states of each context."""
        steps = shapes.shape[1]
        before = np.cumsum(spends, 1) - spends
        means = np.concatenate(
            [np.ones_like(spends[:, :1]), before[:, 1:] / np.arange(1, steps)[:, None]], 1
        )
        features = np.stack(
            [history_features(step, means[:, step], contexts) for step in range(steps)], 1
        )
        flat, said = features.reshape(-1, NUM_FEATURES), shapes.reshape(-1, len(BYTE_AXES) * 2)
        history = np.round(_fit(flat, said), 6)
        explained: Floats = (flat @ history).reshape(shapes.shape)
        beyond: Floats = shapes - explained
        known = log_damages(explained)
        foreseen = [
            (log_damages(explained + axis * beyond) - known).ravel()
            for axis in np.eye(len(BYTE_AXES))[:, :, None]
        ]
        seen = (np.log(np.maximum(damages, LEAST_DAMAGE)) - known).ravel()
        # Trust: regress measured damage on the history and each axis's prediction. Take the lower
        # end, because other kinds of text differ more than these do.
        said_beyond = np.column_stack(foreseen)
        fit = _fit(np.column_stack((flat, said_beyond)), seen)
        rest = seen - flat @ fit[:NUM_FEATURES]
        parts = zip(np.split(said_beyond, texts), np.split(rest, texts), strict=True)
        trust = fit[NUM_FEATURES:] - np.std([_fit(*part) for part in parts], axis=0)
        groups = np.array_split(np.argsort(contexts, kind="stable"), MAX_GROUPS)
        kept, at = [], []
        for group in (group for group in groups if len(group)):
            states = beyond[group].reshape(-1, len(BYTE_AXES), 2)
            chosen = np.linspace(0, len(states) - 1, min(len(states), STATES_PER_CONTEXT))
            kept.append(np.round(states[chosen.astype(int)], 4).tolist())
            at.append(round(float(np.exp(np.log(contexts[group]).mean())), 1))
        record = {
            "history": history.reshape(NUM_FEATURES, len(BYTE_AXES), 2).tolist(),
            "trust": np.round(trust.clip(0, 1), 4).tolist(),
            "contexts": at,
            "shapes": kept,
        }
        return from_json(SampleStates, record, "sample states")

    def near(self, context: int) -> Floats:
        """Return the states of the group with the nearest context, weighted by trust."""
        gaps = [abs(math.log(max(context, 1) / max(known, 1.0))) for known in self.contexts]
        shapes = np.asarray(self.shapes[gaps.index(min(gaps))], dtype=np.float64)
        counts: Floats = shapes * np.asarray(self.trust)[:, None]
        return counts


def _fit(features: Floats, wanted: Floats) -> Floats:
    """Solve ridge regression: [N, F] and [N, …] → [F, …]."""
    system = features.T @ features + RIDGE * np.eye(features.shape[1])
    return np.asarray(np.linalg.solve(system, features.T @ wanted), dtype=np.float64)


def history_features(step: int, means: Floats, contexts: Floats) -> Floats:
    """Return features of an episode so far, [R, features]; contexts [R]: tokens before it."""
    first = 1 / (step + 1)
    # In plain numbers: for a few rows, array operations took five times as long.
    return np.array(
        [
            (1.0, first, math.log2(max(context, 1)) / 8, a, b, a * first, b * first, a * a, b * b)
            for (a, b), context in zip(means.tolist(), contexts.tolist(), strict=True)
        ]
    )


@dataclass(frozen=True, slots=True)
class _Terms:
    """Costs of both axes' levels at a context; a shorter axis is padded with infinity."""

    log_means: Floats
    bytes_read: Floats  # [axes, L], change from a dense step, as a share of it: at most 0
    shares: Floats
    log_prices: Floats


class BytePrices:
    """Prices per byte at which a policy's steps meet their shares."""

    def __init__(
        self, grid: ActionGrid, mixes: MixTable, states: SampleStates, sharpness: Floats
    ) -> None:
        self._mixes, self._states = mixes, states
        self._history = np.asarray(states.history).reshape(NUM_FEATURES, -1)
        self._trust, self._sharpness = np.asarray(states.trust), sharpness
        levels = [np.asarray(getattr(grid, f"{field}s"), np.float64) for field in BYTE_AXES]
        num_levels = max(map(len, levels))
        self._scaled_levels = np.zeros((len(levels), num_levels))
        for row, values in zip(self._scaled_levels, levels, strict=True):
            row[: len(values)] = (values - values[0]) / (values[-1] - values[0]) - 0.5
        self._known: dict[int, _Terms] = {}

    @staticmethod
    def fits(grid: ActionGrid, mixes: MixTable) -> bool:
        """Return whether both axes have several levels, all with measured damage."""
        levels = (grid.keep_fractions, grid.channel_keep_ratios)
        is_choice = all(len(axis) > 1 for axis in levels)
        return mixes.levels == levels and is_choice

    def terms(
        self, features: Floats, shares: Sequence[float], contexts: Sequence[int]
    ) -> ByteTerms:
        """Return the terms of a step's choices besides the network's prediction."""
        known = [self._at(context) for context in contexts]
        prices = [
            math.exp(np.interp(share, terms.shares, terms.log_prices))
            for share, terms in zip(shares, known, strict=True)
        ]
        return ByteTerms(
            features,
            self._history,
            self._trust,
            self._scaled_levels,
            np.asarray([terms.log_means for terms in known]),
            np.asarray([terms.bytes_read for terms in known]),
            np.asarray(prices),
            self._sharpness,
        )

    def _at(self, context: int) -> _Terms:
        key = round(math.log(max(context, SHORTEST) / SHORTEST, CONTEXT_STEP))
        if key not in self._known:
            self._known[key] = self._make(round(SHORTEST * CONTEXT_STEP**key))
        return self._known[key]

    def _make(self, context: int) -> _Terms:
        states, floor = self._states.near(context), self._mixes.floor(context)
        means, read = np.zeros_like(self._scaled_levels), np.full_like(self._scaled_levels, np.inf)
        factors = np.exp(states[..., :1] + states[..., 1:] * self._scaled_levels).mean(0)
        for axis, (damages, beyond) in enumerate(self._mixes.damage_and_bytes(context)):
            count = len(damages)
            dropped = 0.5 - self._scaled_levels[axis, :count]
            damage = np.maximum(np.asarray(damages) - floor, 0) + NEXT_TO_NOTHING * dropped**2
            means[axis, :count] = np.log(np.maximum(damage, _NO_DAMAGE) / factors[axis, :count])
            read[axis, :count] = beyond
        log_prices = np.linspace(*LOG_PRICE_RANGE, NUM_BYTE_PRICES)[::-1]
        foreseen = damages_beyond(states, means, self._scaled_levels)
        costs = foreseen / np.exp(log_prices)[:, None, None, None] + read
        taken = costs.argmin(-1)  # [prices, states, axes]
        shares = 1 + sum(read[axis][taken[..., axis]].mean(1) for axis in range(len(read)))
        dropped = np.any(self._scaled_levels[range(len(read)), taken] < 0.5, -1)
        shares = shares - self._mixes.head_share_saved(context) * np.mean(dropped, 1)
        return _Terms(means, read, shares, log_prices)
