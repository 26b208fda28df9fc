"""What to aim for so that a requested mean is met: the target minus the gap it usually leaves.

Prices are read off sample states, but the states that a policy meets depend on what it is
asked for: little asked of the channels leaves damaged states, on which attention looks more
urgent and gets more than was asked. The gap is regular in the three targets, so it is fitted
on the policy's own rollouts and taken off beforehand (docs/results.md has the numbers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["AimCorrection"]

NUM_TERMS = 10  # 1, z, z·z of the three targets
RIDGE = 2.0  # episodes' worth of evidence for no gap at all
MAX_GAP = 0.15  # share of dense; beyond it something else is wrong than the price


@dataclass(frozen=True, slots=True)
class AimCorrection:
    """A quadratic of the three targets per axis, which vanishes where the axis ends.

    Attributes:
        lows, highs: each axis' first and last level, shares of dense.
        weights: per axis, of the terms 1, z_i, z_i·z_j with z_i in [−1, 1]; none: no correction.
    """

    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()

    @staticmethod
    def fit(targets: Tensor, spends: Tensor, levels: list[Tensor]) -> AimCorrection:
        """Least squares with a pull towards no correction.

        Args:
            targets, spends: [M, 3], asked and spent means of M episodes, shares of dense.
            levels: of each axis, ascending.
        """
        lows = tuple(float(values[0]) for values in levels)
        highs = tuple(float(values[-1]) for values in levels)
        places = _places(targets.double().cpu(), lows, highs)
        gaps = (spends - targets).double().cpu()
        weights = []
        for axis in range(3):
            terms = _room(places[:, axis])[:, None] * _terms(places)
            system = terms.T @ terms + RIDGE * torch.eye(NUM_TERMS, dtype=torch.float64)
            weights.append(tuple(torch.linalg.solve(system, terms.T @ gaps[:, axis]).tolist()))
        return AimCorrection(lows, highs, tuple(weights))

    def aims(self, targets: Tensor) -> Tensor:
        """Targets [R, 3] → means to aim for [R, 3], within each axis."""
        if not self.weights:
            return targets
        flat = targets.double().cpu()
        places = _places(flat, self.lows, self.highs)
        weights = torch.tensor(self.weights, dtype=torch.float64)
        gaps = (_room(places) * (_terms(places) @ weights.T)).clamp(-MAX_GAP, MAX_GAP)
        low, high = torch.tensor(self.lows).double(), torch.tensor(self.highs).double()
        return (flat - gaps).clamp(low, high).float().to(targets.device)

    def to_dict(self) -> dict[str, Any]:
        return {
            "lows": list(self.lows),
            "highs": list(self.highs),
            "weights": [[round(value, 8) for value in axis] for axis in self.weights],
        }

    @staticmethod
    def from_dict(record: dict[str, Any] | None) -> AimCorrection:
        """None is no correction: policies of before it, runs that are not calibrated yet.

        Raises: ValueError, TypeError or KeyError when the record is no correction.
        """
        if record is None:
            return AimCorrection()
        lows, highs = (tuple(float(v) for v in record[name]) for name in ("lows", "highs"))
        weights = tuple(tuple(float(v) for v in axis) for axis in record["weights"])
        if weights and (len(weights), len(lows), len(highs)) != (3, 3, 3):
            raise ValueError("a correction has three axes")
        if any(len(axis) != NUM_TERMS for axis in weights):
            raise ValueError(f"a correction has {NUM_TERMS} weights per axis")
        if not all(math.isfinite(v) for axis in (lows, highs, *weights) for v in axis):
            raise ValueError("a correction may only hold finite numbers")
        return AimCorrection(lows, highs, weights)


def _places(targets: Tensor, lows: tuple[float, ...], highs: tuple[float, ...]) -> Tensor:
    """Each target's place on its axis, −1 to 1; 0 on an axis of a single level."""
    low, high = torch.tensor(lows).double(), torch.tensor(highs).double()
    return (2 * (targets - low) / (high - low).clamp(min=1e-6) - 1).clamp(-1, 1)


def _room(place: Tensor) -> Tensor:
    """1 in the middle of an axis, 0 at its ends, where nothing can be corrected."""
    return 1 - place.square()


def _terms(places: Tensor) -> Tensor:
    """[M, 3] → [M, 10]: 1, z_i, z_i·z_j."""
    first, second = torch.triu_indices(3, 3)
    ones = torch.ones_like(places[:, :1])
    return torch.cat((ones, places, places[:, first] * places[:, second]), 1)
