"""Attention that a page must hold to be read by need: a floor for each level and context.

A level of attention is then not a count of pages but a mean: each layer, KV group and step reads
the pages whose share of its attention reaches the floor, in units of a mean page's share, so much
here and so little there that the mean over layers and text is the level. One floor for all layers:
of so many pages in all, those are read that hold the most. Floors belong to a model and are
measured (``sol_core/comparing/measuring.py``); the default model's come with the program.
Related: Twilight's top-p (arXiv:2502.02770); docs/results.md, "Who gets attention's share".
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sol_core.errors import ConfigError

SHIPPED_FLOORS = Path(__file__).parents[1] / "calibration" / "floors" / "smollm2-135m-instruct.json"


@dataclass(frozen=True)
class PageThresholds:
    """Floors of the share of attention for which a page is read."""

    fingerprint: str  # of the model that they were measured for
    contexts: tuple[int, ...]  # tokens that a row sees, ascending
    levels: tuple[float, ...]  # of attention, ascending, each above 0 and below 1
    log_floors: tuple[tuple[float, ...], ...]  # [contexts][levels], natural logarithms

    def __post_init__(self) -> None:
        rising = all(
            values and list(values) == sorted(set(values)) and values[0] > 0
            for values in (self.contexts, self.levels)
        )
        shape = [len(line) for line in self.log_floors]
        if not rising or shape != [len(self.levels)] * len(self.contexts) or self.levels[-1] >= 1:
            raise ConfigError("page floors must be [contexts, levels], both ascending")
        if not all(math.isfinite(value) for line in self.log_floors for value in line):
            raise ConfigError("page floors must be finite numbers")

    def floor(self, level: float, context: int) -> float:
        """The floor, interpolated in the context's logarithm; the nearest one beyond the table."""
        first, later, share = _between(self.contexts, context)
        if later > first:
            share = math.log(context / self.contexts[first])
            share /= math.log(self.contexts[later] / self.contexts[first])
        low, high, part = _between(self.levels, level)
        at_low, at_high = (
            (1 - share) * self.log_floors[first][place] + share * self.log_floors[later][place]
            for place in (low, high)
        )
        return math.exp((1 - part) * at_low + part * at_high)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @staticmethod
    def from_dict(record: Any) -> PageThresholds:
        """Read ``to_dict`` back. Raises: ConfigError for anything else."""
        try:
            return PageThresholds(
                str(record["fingerprint"]),
                tuple(int(value) for value in record["contexts"]),
                tuple(float(value) for value in record["levels"]),
                tuple(tuple(float(value) for value in line) for line in record["log_floors"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"not a table of page floors: {error}") from error


@cache
def shipped_floors() -> PageThresholds:
    """The default model's."""
    return PageThresholds.from_dict(json.loads(SHIPPED_FLOORS.read_text("utf-8")))


def floors_for(fingerprint: str) -> PageThresholds | None:
    """The shipped floors of a model; None where there are none."""
    shipped = shipped_floors()
    return shipped if shipped.fingerprint == fingerprint else None


def _between(knots: Sequence[float], at: float) -> tuple[int, int, float]:
    """The knots around a place, and how far it is from the first to the second."""
    right = bisect_left(knots, at)
    if right in (0, len(knots)):
        end = min(right, len(knots) - 1)
        return end, end, 0.0
    return right - 1, right, (at - knots[right - 1]) / (knots[right] - knots[right - 1])
