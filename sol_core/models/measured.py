"""Tables that budgets of bytes rest on, measured here for a model that has none with the program.

One JSON file a model in the data directory; ``sol_core/comparing/measuring.py`` fills it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sol_core.errors import ConfigError, ModelLoadError
from sol_core.files.places import read_regular
from sol_core.files.staging import replacing
from sol_core.models.page_thresholds import PageThresholds, floors_for

_SHIPPED = Path(__file__).parents[1] / "calibration" / "head" / "smollm2-135m-instruct.json"
_SCHEMA = 1
_MAX_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class MeasuredTables:
    """Tables that were measured of one model."""

    floors: PageThresholds | None  # of attention by need; None without
    damage: Mapping[str, Any]  # by name of a grid, ``DamageTable.to_dict``
    directions: Tensor | None  # [C, D] fp32, for the head's preview; None without


def read_tables(data_dir: Path, fingerprint: str) -> MeasuredTables:
    """Read a model's tables: those with the program, or those measured here; they may be empty."""
    path = _path(data_dir, fingerprint)
    if not path.exists():
        return MeasuredTables(floors_for(fingerprint), {}, shipped_directions(fingerprint))
    try:
        record = json.loads(read_regular(path, _MAX_BYTES))
        if record["schema"] != _SCHEMA:
            raise ConfigError(f"schema {record['schema']!r}, this release reads {_SCHEMA}")
        return MeasuredTables(
            PageThresholds.from_dict(record["floors"]),
            dict(record["damage"]),
            directions_of(record["head"]),
        )
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ModelLoadError(
            f"{path} cannot be read ({error}): delete it, and `train --preset share` measures the "
            "model again"
        ) from error


def write_tables(data_dir: Path, name: str, fingerprint: str, tables: MeasuredTables) -> None:
    """Keep a model's tables. Raises: OSError when they cannot be written."""
    assert tables.floors is not None
    assert tables.directions is not None
    record = {
        "schema": _SCHEMA,
        "model": name,
        "floors": tables.floors.to_dict(),
        "damage": dict(tables.damage),
        "head": directions_record(tables.directions),
    }
    path = _path(data_dir, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as staged:
        staged.write_text(json.dumps(record), "utf-8")


def _path(data_dir: Path, fingerprint: str) -> Path:
    return Path(data_dir) / "measured" / f"{fingerprint}.json"


def shipped_directions(fingerprint: str) -> Tensor | None:
    """Final states' directions of a model, [C, D] float32; None of one that none come with."""
    record = json.loads(_SHIPPED.read_text("utf-8"))
    return directions_of(record) if record["fingerprint"] == fingerprint else None


def directions_record(directions: Tensor) -> dict[str, Any]:
    """JSON-ready form of [C, D] float32, in 16 bits."""
    data = base64.b64encode(directions.half().contiguous().numpy().tobytes())
    return {"shape": list(directions.shape), "float16": data.decode("ascii")}


def directions_of(record: Mapping[str, Any]) -> Tensor:
    """Read ``directions_record`` back. Raises: ConfigError for anything else."""
    try:
        data = base64.b64decode(record["float16"], validate=True)
        directions = torch.frombuffer(bytearray(data), dtype=torch.float16).float()
        directions = directions.view(*record["shape"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"not a table of directions: {error}") from error
    if directions.dim() != 2 or not bool(directions.isfinite().all()):
        raise ConfigError("directions must be finite numbers [C, D]")
    return directions
