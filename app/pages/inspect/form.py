"""The Inspect form's values and what they mean to the engine, both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from app.pages.explore.form import BudgetForm, budget_values, grid_choice, schedule_from
from app.web.calls import read_form
from sol_core.config import POLICY_PREFIX
from sol_core.errors import ConfigError
from sol_core.fields import Range, from_json
from sol_core.inspection.records import MAX_SCHEDULES, InspectionConfig
from sol_core.policy.files.locate import DEFAULT_POLICY

MAX_TOKENS = 4096  # of a text; as many as a generation may have
NO_SCHEDULE = ""


@dataclass(frozen=True, slots=True)
class InspectForm(BudgetForm):
    """The form's values as the page sends them; what they mean is checked by the engine."""

    keep: float = 50
    channels: float = 60
    bits: float = 8
    schedules: tuple[str, ...] = ("static", "emc", NO_SCHEDULE)
    max_tokens: Annotated[int, Range(2, MAX_TOKENS)] = 1024


DEFAULT_FORM: dict[str, Any] = asdict(InspectForm()) | {"schedules": list(InspectForm().schedules)}


def default_form(policies: list[str]) -> dict[str, Any]:
    """Return the form's defaults: the shipped policy beside static where there is one."""
    if DEFAULT_POLICY in policies:
        first = ["static", POLICY_PREFIX + DEFAULT_POLICY, NO_SCHEDULE]
        return DEFAULT_FORM | {"schedules": first}
    return DEFAULT_FORM


def config_from_form(values: dict[str, Any], find: Callable[[str], Path]) -> InspectionConfig:
    """The engine's configuration for the page's settings; ``find`` gives a policy's folder."""
    form = read_form(InspectForm, values)
    chosen = [name for name in form.schedules if name != NO_SCHEDULE]
    if not chosen:
        raise ConfigError("Choose at least one schedule to set beside dense.")
    schedules = tuple(schedule_from(name, form.budget, form.seed) for name in chosen)
    return InspectionConfig(
        schedules=schedules,
        grid=form.action_grid(schedules, find),
        episode_steps=form.episode_steps,
        max_tokens=form.max_tokens,
        read_pages=True,
    )


def form_from_config(record: dict[str, Any]) -> dict[str, Any]:
    """The form's values of a saved inspection without its painted schedule. Raises: SolError."""
    config = from_json(InspectionConfig, record)
    form = dict(DEFAULT_FORM)
    names = [schedule.name for schedule in config.schedules if schedule.kind != "painted"]
    form["schedules"] = [*names, *[NO_SCHEDULE] * (MAX_SCHEDULES - len(names))]
    if config.schedules:
        first = config.schedules[0]
        form |= budget_values(first.budget) | {"seed": first.seed}
    return form | {
        "max_tokens": min(config.max_tokens or MAX_TOKENS, MAX_TOKENS),
        "grid": grid_choice(config.grid),
        "quant_site": config.grid.quant_site,
        "episode_steps": config.episode_steps,
    }
