"""Aims that meet a requested mean: the target minus the gap it usually leaves.

Prices are derived from sample states, but the states that a policy meets depend on its budget: few
channels leave damaged states, on which attention looks more urgent and gets more than requested.
They also depend on the context's length: the more pages there are, the less damage a dropped share
of them does. The gap is regular in the targets and in that length, so it is fitted on the policy's
own rollouts and subtracted in advance (docs/decisions.md has the numbers).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sol_core.actions import AXES

RIDGE = 2.0  # episodes' worth of evidence for no gap at all
MAX_GAP = 0.15  # share of dense; beyond it something else is wrong than the price


@dataclass(frozen=True, slots=True)
class AimCorrection:
    """A quadratic of the targets per axis, which vanishes where the axis ends.

    Attributes:
        lows, highs: each axis' first and last level, shares of dense.
        weights: per axis, of the terms 1, z_i, z_i·z_j, x, x·z_i with z_i and x in [−1, 1];
            none: no correction.
        contexts: shortest and longest context it was fitted on, tokens; others count as these.
    """

    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    contexts: tuple[float, float] = (1.0, 1.0)

    @staticmethod
    def fit(
        targets: Tensor, spends: Tensor, contexts: Tensor, levels: list[Tensor]
    ) -> AimCorrection:
        """Least squares with a pull towards no correction.

        Args:
            targets, spends: [M, axes], asked and spent means of M episodes, shares of dense.
            contexts: [M], tokens before each episode.
            levels: of each axis, ascending.
        """
        empty = AimCorrection(
            tuple(float(values[0]) for values in levels),
            tuple(float(values[-1]) for values in levels),
            contexts=(float(contexts.min()), float(contexts.max())),
        )
        places, lengths = empty._places(targets), empty._lengths(contexts)
        gaps = (spends - targets).double().cpu()
        weights = []
        for axis in range(len(levels)):
            terms = _room(places[:, axis])[:, None] * _terms(places, lengths)
            system = terms.T @ terms + RIDGE * torch.eye(terms.shape[1], dtype=torch.float64)
            solution = torch.linalg.solve(system, terms.T @ gaps[:, axis]).tolist()
            weights.append(tuple(round(value, 8) for value in solution))  # as its JSON has them
        return dataclasses.replace(empty, weights=tuple(weights))

    def aims(self, targets: Tensor, contexts: Tensor) -> Tensor:
        """Means to aim for [R, axes], within each axis.

        Args:
            targets: [R, axes].
            contexts: [R], tokens before the episode.
        """
        if not self.weights:
            return targets
        flat = targets.double().cpu()
        places = self._places(targets)
        weights = torch.tensor(self.weights, dtype=torch.float64)
        terms = _terms(places, self._lengths(contexts))
        gaps = (_room(places) * (terms @ weights.T)).clamp(-MAX_GAP, MAX_GAP)
        low, high = torch.tensor(self.lows).double(), torch.tensor(self.highs).double()
        return (flat - gaps).clamp(low, high).float().to(targets.device)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(record: dict[str, Any] | None) -> AimCorrection:
        """None is no correction: policies of before it, runs that are not calibrated yet.

        Raises: ValueError, TypeError or KeyError when the record is no correction.
        """
        if record is None:
            return AimCorrection()
        lows, highs, contexts = (
            tuple(float(v) for v in record[name]) for name in ("lows", "highs", "contexts")
        )
        weights = tuple(tuple(float(v) for v in axis) for axis in record["weights"])
        axes = len(weights)
        if weights and not axes == len(lows) == len(highs) == len(AXES):
            raise ValueError(f"a correction has {len(AXES)} axes")
        terms = _num_terms(axes)
        if any(len(axis) != terms for axis in weights):
            raise ValueError(f"a correction of {axes} axes has {terms} weights per axis")
        if not all(math.isfinite(v) for axis in (lows, highs, contexts, *weights) for v in axis):
            raise ValueError("a correction may only hold finite numbers")
        if len(contexts) != 2 or not 1 <= contexts[0] <= contexts[1]:
            raise ValueError("a correction's contexts are the shortest and the longest, 1 or more")
        return AimCorrection(lows, highs, weights, (contexts[0], contexts[1]))

    def _places(self, targets: Tensor) -> Tensor:
        """Each target's place on its axis, −1 to 1; 0 on an axis of a single level."""
        low, high = torch.tensor(self.lows).double(), torch.tensor(self.highs).double()
        place = (targets.double().cpu() - low) / (high - low).clamp(min=1e-6)
        return (2 * place - 1).clamp(-1, 1)

    def _lengths(self, contexts: Tensor) -> Tensor:
        """[R]: the logarithm's place between the shortest and the longest context, −1 to 1."""
        low, high = (math.log(max(1.0, tokens)) for tokens in self.contexts)
        place = (contexts.double().cpu().clamp(min=1).log() - low) / max(high - low, 1e-6)
        return (2 * place - 1).clamp(-1, 1)


def _room(place: Tensor) -> Tensor:
    """1 in the middle of an axis, 0 at its ends, where nothing can be corrected."""
    return 1 - place.square()


def _num_terms(axes: int) -> int:
    """1, z_i, z_i·z_j, x, x·z_i: 14 of three axes."""
    return 1 + axes + axes * (axes + 1) // 2 + 1 + axes


def _terms(places: Tensor, lengths: Tensor) -> Tensor:
    """[M, axes] and [M] → [M, terms]: 1, z_i, z_i·z_j, x, x·z_i."""
    axes = places.shape[1]
    first, second = torch.triu_indices(axes, axes)
    ones, length = torch.ones_like(places[:, :1]), lengths[:, None]
    products = places[:, first] * places[:, second]
    return torch.cat((ones, places, products, length, length * places), 1)
