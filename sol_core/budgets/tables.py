"""Finds a model's measured tables: its own, else those of the default model."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sol_core.actions import ActionGrid, grid_name
from sol_core.budgets.damage import DamageTable
from sol_core.budgets.mixes import MixTable
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel

SHIPPED = Path(__file__).parent / "shipped.json"


def damage_table(model: LanguageModel, grid: ActionGrid) -> tuple[DamageTable, str]:
    """The damage table for a model and grid, and the name of the model it was measured on.

    Raises: ConfigError for a grid of one's own, for which nothing was measured.
    """
    name = grid_name(grid)
    for record in _shipped():
        if record["fingerprint"] == model.fingerprint and name in record["damage"]:
            return _table(record, name), record["model"]
    default = _shipped()[0]
    if name not in default["damage"]:
        raise ConfigError(
            f"no damage was measured for the grid {grid}: give a budget per axis, or use the grid "
            + " or ".join(default["damage"])
        )
    return _table(default, name), default["model"]


def mix_table(model: LanguageModel, grid: ActionGrid) -> MixTable:
    """Mixes of a model under a grid. Raises: ConfigError as ``damage_table``."""
    table, measured_on = damage_table(model, grid)
    return MixTable(table, CostModel.of(model.lm, grid), measured_on)


@cache
def _shipped() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(SHIPPED.read_text("utf-8"))["models"])


def _table(record: dict[str, Any], grid: str) -> DamageTable:
    return DamageTable.from_dict(record["damage"][grid])
