"""The benchmark form's values and what they mean to the engine."""

from __future__ import annotations

from typing import Any

from app.evaluate.request import budgets_text, whole_number
from sol_core.downstream.config import BenchmarkConfig
from sol_core.errors import ConfigError
from sol_core.evaluation.config import parse_budgets

__all__ = ["DEFAULT_VALUES", "config_of", "values_of"]

_DEFAULT = BenchmarkConfig()
DEFAULT_VALUES: dict[str, Any] = {
    "tasks": list(_DEFAULT.tasks),
    "limit": _DEFAULT.limit,
    "budgets": budgets_text(_DEFAULT.budgets),
    "seed": _DEFAULT.seed,
}


def config_of(values: dict[str, Any]) -> BenchmarkConfig:
    """The engine's configuration for the form's values.

    Raises: ConfigError naming the value that is unknown, of the wrong kind or out of range.
    """
    if unknown := sorted(set(values) - set(DEFAULT_VALUES)):
        raise ConfigError(f"unknown setting {', '.join(unknown)}. Reload the page.")
    values = DEFAULT_VALUES | values
    if not isinstance(values["budgets"], str):
        raise ConfigError(f"budgets must be text, got {values['budgets']!r}")
    if not isinstance(values["tasks"], list):
        raise ConfigError(f"tasks must be a list of names, got {values['tasks']!r}")
    return BenchmarkConfig(
        tuple(values["tasks"]),
        whole_number("limit", values["limit"]),
        parse_budgets(values["budgets"].replace("\n", ";")),
        whole_number("seed", values["seed"]),
    )


def values_of(record: dict[str, Any]) -> dict[str, Any]:
    """The form's values of a saved configuration.

    Raises: ConfigError when this release cannot read it.
    """
    config = BenchmarkConfig.from_dict(record)
    return {
        "tasks": list(config.tasks),
        "limit": config.limit,
        "budgets": budgets_text(config.budgets),
        "seed": config.seed,
    }
