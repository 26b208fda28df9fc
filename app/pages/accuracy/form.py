"""The accuracy form's values and what they mean to the engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from app.pages.evaluate.form import budgets_text
from app.web.calls import read_form
from sol_core.evaluation.config import parse_budgets
from sol_core.fields import from_json
from sol_core.tasks.config import TasksConfig

_DEFAULT = TasksConfig()


@dataclass(frozen=True, slots=True)
class AccuracyForm:
    """The form's values as the page sends them; what they mean is checked by the engine."""

    tasks: tuple[str, ...] = _DEFAULT.tasks
    limit: int = _DEFAULT.limit
    budgets: str = budgets_text(_DEFAULT.budgets)
    with_paper: bool = False
    seed: int = _DEFAULT.seed


DEFAULT_FORM: dict[str, Any] = asdict(AccuracyForm()) | {"tasks": list(_DEFAULT.tasks)}


def config_from_form(values: dict[str, Any]) -> TasksConfig:
    """The engine's configuration for the form's values.

    Raises: ConfigError naming the value that is unknown, of the wrong kind or out of range.
    """
    form = read_form(AccuracyForm, values)
    budgets = parse_budgets(form.budgets.replace("\n", ";"))
    return TasksConfig(
        form.tasks,
        form.limit,
        budgets,
        form.seed,
        ("static", "paper") if form.with_paper else ("static",),
    )


def form_from_config(record: dict[str, Any]) -> dict[str, Any]:
    """The form's values of a saved configuration.

    Raises: ConfigError when this release cannot read it.
    """
    config = from_json(TasksConfig, record)
    return {
        "tasks": list(config.tasks),
        "limit": config.limit,
        "budgets": budgets_text(config.budgets),
        "with_paper": "paper" in config.baselines,
        "seed": config.seed,
    }
