"""The Inspect page's settings and what they mean to the engine.

The page speaks percent and plain words, as Explore does; both directions are here.
"""

from __future__ import annotations

from typing import Any

from app.explore.settings import POLICY_PREFIX, budget_from, schedule_from, text_of, whole_of
from app.policy_library import DEFAULT_POLICY
from sol_core.actions import ActionGrid
from sol_core.config import ScheduleConfig, config_from_dict
from sol_core.errors import ConfigError, SolError
from sol_core.inspection import MAX_SCHEDULES, InspectionConfig

__all__ = [
    "DEFAULT_SETTINGS",
    "MAX_TOKENS",
    "config_from_settings",
    "default_settings",
    "settings_from_config",
]

MAX_TOKENS = 4096  # of a text; as many as a generation may have
NO_SCHEDULE = ""

DEFAULT_SETTINGS: dict[str, Any] = {
    "schedules": ["static", "emc", NO_SCHEDULE],
    "keep": 50,
    "channels": 60,
    "bits": 8,
    "max_tokens": 1024,
    "seed": 0,
    "quant_site": "mlp_output",
    "episode_steps": 16,
}


def default_settings(policies: list[str]) -> dict[str, Any]:
    """What the form begins with: the shipped policy beside static where there is one."""
    if DEFAULT_POLICY in policies:
        first = ["static", POLICY_PREFIX + DEFAULT_POLICY, NO_SCHEDULE]
        return DEFAULT_SETTINGS | {"schedules": first}
    return DEFAULT_SETTINGS


def config_from_settings(settings: dict[str, Any]) -> InspectionConfig:
    """The engine's configuration for the page's settings.

    Raises: ConfigError naming the value that is missing, unknown or out of range.
    """
    if unknown := sorted(set(settings) - set(DEFAULT_SETTINGS)):
        raise ConfigError(f"unknown setting {', '.join(unknown)}")
    values = DEFAULT_SETTINGS | settings
    tokens = whole_of(values, "max_tokens")
    if not 2 <= tokens <= MAX_TOKENS:
        raise ConfigError(f"max_tokens must be 2 to {MAX_TOKENS}, got {tokens}")
    return InspectionConfig(
        schedules=_schedules(values),
        grid=ActionGrid(quant_site=text_of(values, "quant_site")),  # type: ignore[arg-type]  # checked by ActionGrid
        episode_steps=whole_of(values, "episode_steps"),
        max_tokens=tokens,
    )


def settings_from_config(record: dict[str, Any]) -> dict[str, Any] | None:
    """The page's settings of a saved inspection; None when this release cannot read them."""
    try:
        config = config_from_dict(InspectionConfig, record)
    except (SolError, TypeError):
        return None
    settings = dict(DEFAULT_SETTINGS)
    names = [schedule.name for schedule in config.schedules]
    settings["schedules"] = [*names, *[NO_SCHEDULE] * (MAX_SCHEDULES - len(names))]
    if config.schedules:
        budget = config.schedules[0].budget
        settings |= {
            "keep": round(budget.keep_fraction * 100, 2),
            "channels": round(budget.channel_keep_ratio * 100, 2),
            "bits": budget.bit_width,
            "seed": config.schedules[0].seed,
        }
    return settings | {
        "max_tokens": min(config.max_tokens or MAX_TOKENS, MAX_TOKENS),
        "quant_site": config.grid.quant_site,
        "episode_steps": config.episode_steps,
    }


def _schedules(values: dict[str, Any]) -> tuple[ScheduleConfig, ...]:
    names = values["schedules"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"schedules must be a list of names, got {names!r}")
    budget, seed = budget_from(values), whole_of(values, "seed")
    chosen = [name for name in names if name != NO_SCHEDULE]
    if not chosen:
        raise ConfigError("Choose at least one schedule to set beside dense.")
    return tuple(schedule_from(name, budget, seed) for name in chosen)
