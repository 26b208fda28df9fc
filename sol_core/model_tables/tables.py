"""Tables for byte budgets, shipped for the default model and measured here for others.

Attention by need reads a page if its fraction of a step's attention reaches a floor, in units of
the mean page's fraction. All layers share the floor, so the pages with the most attention are read.
"""

from __future__ import annotations

import base64
import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sol_core.actions import DEFAULT_GRID
from sol_core.errors import ConfigError, ModelLoadError
from sol_core.fields import from_json
from sol_core.files.paths import read_regular
from sol_core.files.staging import replacing

_HERE = Path(__file__).parent
_SHIPPED_FLOORS = _HERE / "floors" / "smollm2-135m-instruct.json"
_SHIPPED_HEAD = _HERE / "head" / "smollm2-135m-instruct.json"
_SCHEMA = 2  # in 1, "need" named the default grid's damage, "default" another grid's
_MAX_BYTES = 4_000_000
SHIPPED_DAMAGE = _HERE / "damage.json"  # of levels; see ``sol_core/budgets/mixes.py``


@dataclass(frozen=True)
class PageThresholds:
    """The smallest attention with which a page is read, by level and context."""

    fingerprint: str  # of the model measured
    contexts: tuple[int, ...]  # tokens, ascending
    levels: tuple[float, ...]  # fractions of attention in (0, 1), ascending
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

    def floors(self, levels: Sequence[float], context: int) -> list[float]:
        """Return the levels' floors, interpolated in log context and constant beyond the table."""
        first, last, weight = _bracketing_knots(self.contexts, context)
        if last > first:
            weight = math.log(context / self.contexts[first])
            weight /= math.log(self.contexts[last] / self.contexts[first])
        short, long = self.log_floors[first], self.log_floors[last]
        floors = []
        for level in levels:
            low, high, part = _bracketing_knots(self.levels, level)
            at_low = (1 - weight) * short[low] + weight * long[low]
            at_high = (1 - weight) * short[high] + weight * long[high]
            floors.append(math.exp((1 - part) * at_low + part * at_high))
        return floors


@cache
def shipped_floors() -> PageThresholds:
    return from_json(PageThresholds, json.loads(_SHIPPED_FLOORS.read_text("utf-8")), "page floors")


def _bracketing_knots(knots: Sequence[float], at: float) -> tuple[int, int, float]:
    """Return the indices of the knots around ``at``, and its fraction of their distance."""
    right = bisect_left(knots, at)
    if right in (0, len(knots)):
        end = min(right, len(knots) - 1)
        return end, end, 0.0
    return right - 1, right, (at - knots[right - 1]) / (knots[right] - knots[right - 1])


class MeasuredTables(NamedTuple):
    """The tables of one model."""

    floors: PageThresholds | None  # None without attention by need
    damage: Mapping[str, Any]  # grid name → ``DamageTable`` as JSON
    directions: Tensor | None  # [C, D] fp32, for the head's preview; None without


def read_tables(data_dir: Path, fingerprint: str) -> MeasuredTables:
    """Read a model's tables, shipped or measured here; they may be empty."""
    path = _path(data_dir, fingerprint)
    if not path.exists():
        floors, head = shipped_floors(), json.loads(_SHIPPED_HEAD.read_text("utf-8"))
        return MeasuredTables(
            floors if floors.fingerprint == fingerprint else None,
            {},
            directions_from_record(head) if head["fingerprint"] == fingerprint else None,
        )
    try:
        record = json.loads(read_regular(path, _MAX_BYTES))
        damage = dict(record["damage"])
        if record["schema"] == 1:
            damage = {DEFAULT_GRID: damage["need"]}
        elif record["schema"] != _SCHEMA:
            raise ConfigError(f"schema {record['schema']!r}, this release reads 1 and {_SCHEMA}")
        return MeasuredTables(
            from_json(PageThresholds, record["floors"], "page floors"),
            damage,
            directions_from_record(record["head"]),
        )
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ModelLoadError(
            f"{path} cannot be read ({error}): delete it, and `train` measures the model again"
        ) from error


def write_tables(data_dir: Path, name: str, fingerprint: str, tables: MeasuredTables) -> None:
    """Store a model's tables. Raises: OSError if they cannot be written."""
    assert tables.floors is not None
    assert tables.directions is not None
    record = {
        "schema": _SCHEMA,
        "model": name,
        "floors": asdict(tables.floors),
        "damage": dict(tables.damage),
        "head": directions_record(tables.directions),
    }
    path = _path(data_dir, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as staged:
        staged.write_text(json.dumps(record), "utf-8")


def _path(data_dir: Path, fingerprint: str) -> Path:
    return Path(data_dir) / "measured" / f"{fingerprint}.json"


def directions_record(directions: Tensor) -> dict[str, Any]:
    """Return [C, D] float32 as JSON-ready values of 16 bits."""
    data = base64.b64encode(directions.half().contiguous().numpy().tobytes())
    return {"shape": list(directions.shape), "float16": data.decode("ascii")}


def directions_from_record(record: Mapping[str, Any]) -> Tensor:
    """Read the result of ``directions_record``. Raises: ConfigError for other values."""
    try:
        data = base64.b64decode(record["float16"], validate=True)
        directions = torch.frombuffer(bytearray(data), dtype=torch.float16).float()
        directions = directions.view(*record["shape"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"not a table of directions: {error}") from error
    if directions.dim() != 2 or not bool(directions.isfinite().all()):
        raise ConfigError("directions must be finite numbers [C, D]")
    return directions
