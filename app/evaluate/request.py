"""The evaluation form's values and what they mean to the engine."""

from __future__ import annotations

import math
from typing import Any

from sol_core.actions import Budget
from sol_core.errors import ConfigError
from sol_core.evaluation.config import REFERENCE_BUDGETS, EvaluationConfig, parse_budgets

__all__ = [
    "DEFAULT_VALUES",
    "MAX_POLICIES",
    "budgets_text",
    "checked_policies",
    "config_of",
    "whole_number",
]

MAX_POLICIES = 6
_COUNTS = ("texts", "windows", "context", "steps", "seed")
_FLAGS = ("sampled", "pollution", "refresh")


def budgets_text(budgets: tuple[Budget, ...] | list[Any]) -> str:
    """Budgets as the text box shows them: "0.5,0.6,8; 0.3,0.5,7"."""
    rows = [budget.as_tuple() if isinstance(budget, Budget) else budget for budget in budgets]
    return "; ".join(",".join(f"{value:g}" for value in row) for row in rows)


DEFAULT_VALUES: dict[str, Any] = {
    "budgets": budgets_text(REFERENCE_BUDGETS),
    "random": 10,
    "emc": False,
    "dac": False,
    **{name: getattr(EvaluationConfig(), name) for name in (*_COUNTS, *_FLAGS)},
}


def config_of(values: dict[str, Any], corpus: str) -> EvaluationConfig:
    """The engine's configuration for the form's values.

    Raises: ConfigError naming the value that is unknown, of the wrong kind or out of range.
    """
    if unknown := sorted(set(values) - set(DEFAULT_VALUES)):
        raise ConfigError(f"unknown setting {', '.join(unknown)}. Reload the page.")
    values = DEFAULT_VALUES | values
    if not isinstance(values["budgets"], str):
        raise ConfigError(f"budgets must be text, got {values['budgets']!r}")
    numbers: dict[str, Any] = {name: whole_number(name, values[name]) for name in _COUNTS}
    numbers |= {name: values[name] for name in _FLAGS}
    return EvaluationConfig(
        corpus=corpus,
        budgets=parse_budgets(values["budgets"].replace("\n", ";")),
        baselines=_baselines(values),
        **numbers,
    )


def values_of(record: dict[str, Any]) -> dict[str, Any]:
    """The form's values of a saved configuration.

    Raises: ConfigError when this release cannot read it.
    """
    config = EvaluationConfig.from_dict(record)
    names = set(config.baselines)
    return {
        "budgets": budgets_text(config.budgets),
        "random": config.num_random,
        "emc": "emc" in names,
        "dac": "dac" in names,
        **{name: getattr(config, name) for name in (*_COUNTS, *_FLAGS)},
    }


def checked_policies(chosen: list[Any], known: list[str]) -> list[str]:
    """The policies to evaluate, the first of which the figures are about.

    Raises: ConfigError when none, too many, or one that is not there is chosen.
    """
    if not chosen:
        raise ConfigError("Choose a policy to evaluate.")
    if len(chosen) > MAX_POLICIES:
        raise ConfigError(f"At most {MAX_POLICIES} policies at once, {len(chosen)} are chosen.")
    for name in chosen:
        if name not in known:
            raise ConfigError(f"There is no policy {str(name)[:80]!r}. It may have been deleted.")
    return list(dict.fromkeys(chosen))


def _baselines(values: dict[str, Any]) -> tuple[str, ...]:
    names = ["static"]
    number = whole_number("random", values["random"])
    if number:
        names.append(f"random:{number}")
    names += [name for name in ("emc", "dac") if values[name] is True]
    return tuple(names)


def whole_number(name: str, value: Any) -> int:
    """A number from a form. Raises: ConfigError naming what is no whole number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value != int(value):
        raise ConfigError(f"{name} must be a whole number, got {value!r}")
    return int(value)
