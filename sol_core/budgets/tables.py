"""Finds a model's measured damage: its own, else that of the default model."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sol_core.actions import GRIDS, OWN_GRID, PAPER, ActionGrid
from sol_core.budgets.damage import DamageTable
from sol_core.budgets.mixes import MixTable
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from sol_core.models import FrozenLM
    from sol_core.models.loading import LanguageModel

SHIPPED = Path(__file__).parent / "shipped.json"


def damage_table(grid: ActionGrid, fingerprint: str = "") -> tuple[DamageTable, str]:
    """The damage table for a grid, and the name of the model it was measured on.

    Args:
        fingerprint: of the model in use; one without a table gets the default model's.
    Raises: ConfigError for a grid that nothing was measured for.
    """
    name, models = measured_name(grid), _shipped()
    for record in (*(entry for entry in models if entry["fingerprint"] == fingerprint), models[0]):
        if name in record["damage"]:
            return DamageTable.from_dict(record["damage"][name]), record["model"]
    raise ConfigError(
        f"no damage was measured for the grid {grid}: give a budget per axis, or use the grid "
        + " or ".join(models[0]["damage"])
    )


def mixes_of(lm: FrozenLM, grid: ActionGrid, fingerprint: str = "") -> MixTable:
    """Mixes of a decoder under a grid. Raises: ConfigError as ``damage_table``."""
    return _mixes(lm, grid, *damage_table(grid, fingerprint))


def mix_table(model: LanguageModel, grid: ActionGrid) -> MixTable:
    """Mixes of a model under a grid. Raises: ConfigError as ``damage_table``."""
    own = model.damage.get(measured_name(grid))
    if own is not None:
        return _mixes(model.lm, grid, DamageTable.from_dict(own), model.name)
    table, measured_on = damage_table(grid, model.fingerprint)
    if has_own_damage(model, grid):
        measured_on = model.name  # a file of the same weights may have another name
    return _mixes(model.lm, grid, table, measured_on)


def has_own_damage(model: LanguageModel, grid: ActionGrid) -> bool:
    """Return whether damage was measured of this model, with the program or here."""
    name = measured_name(grid)
    shipped = any(
        entry["fingerprint"] == model.fingerprint and name in entry["damage"]
        for entry in _shipped()
    )
    return shipped or name in model.damage


def _mixes(lm: FrozenLM, grid: ActionGrid, table: DamageTable, measured_on: str) -> MixTable:
    levels = grid.keep_fractions, grid.channel_keep_ratios
    return MixTable(table.of_levels(*levels), CostModel.of(lm, grid), measured_on)


def measured_name(grid: ActionGrid) -> str:
    """The named grid whose mechanisms a grid has: damage depends on those and on levels."""
    how = replace(grid.mechanisms, quant_site=PAPER.quant_site)
    return next((name for name, entry in GRIDS.items() if entry.mechanisms == how), OWN_GRID)


@cache
def _shipped() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(SHIPPED.read_text("utf-8"))["models"])
