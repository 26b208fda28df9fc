"""Tables that budgets of bytes rest on, measured here for a model that has none with the program.

One JSON file a model in the data directory; ``sol_core/comparing/measuring.py`` fills it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sol_core.errors import ConfigError, ModelLoadError
from sol_core.files.places import read_regular
from sol_core.files.staging import replacing
from sol_core.models.page_thresholds import PageThresholds, floors_for

_SCHEMA = 1
_MAX_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class MeasuredTables:
    """Measured of one model.

    Attributes:
        floors: of attention by need; None without.
        damage: by name of a grid, ``DamageTable.to_dict``.
    """

    floors: PageThresholds | None
    damage: Mapping[str, Any]


def read_tables(data_dir: Path, fingerprint: str) -> MeasuredTables:
    """Read a model's tables: those with the program, or those measured here; they may be empty.

    Raises: ModelLoadError when the file is damaged.
    """
    path = _path(data_dir, fingerprint)
    if not path.exists():
        return MeasuredTables(floors_for(fingerprint), {})
    try:
        record = json.loads(read_regular(path, _MAX_BYTES))
        if record["schema"] != _SCHEMA:
            raise ConfigError(f"schema {record['schema']!r}, this release reads {_SCHEMA}")
        return MeasuredTables(PageThresholds.from_dict(record["floors"]), dict(record["damage"]))
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ModelLoadError(
            f"{path} cannot be read ({error}): delete it, and `train --preset share` measures the "
            "model again"
        ) from error


def write_tables(data_dir: Path, name: str, fingerprint: str, tables: MeasuredTables) -> None:
    """Keep a model's tables. Raises: OSError when they cannot be written."""
    assert tables.floors is not None
    record = {
        "schema": _SCHEMA,
        "model": name,
        "floors": tables.floors.to_dict(),
        "damage": dict(tables.damage),
    }
    path = _path(data_dir, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as staged:
        staged.write_text(json.dumps(record), "utf-8")


def _path(data_dir: Path, fingerprint: str) -> Path:
    return Path(data_dir) / "measured" / f"{fingerprint}.json"
