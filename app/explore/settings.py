"""The page's settings and what they mean to the engine.

The page speaks percent and plain words; ``config_from_settings`` checks every value and makes
the engine's configuration, ``settings_from_config`` goes back for a run that is opened.
"""

from __future__ import annotations

import math
from typing import Any

from app.policy_library import DEFAULT_POLICY
from sol_core.actions import ActionGrid, Budget
from sol_core.config import (
    GenerationConfig,
    SamplingConfig,
    ScheduleConfig,
    SideRowConfig,
    config_from_dict,
)
from sol_core.errors import ConfigError, SolError

__all__ = [
    "DEFAULT_SETTINGS",
    "MAX_NEW_TOKENS",
    "MAX_PROMPT_CHARACTERS",
    "POLICY_PREFIX",
    "budget_from",
    "checked_prompt",
    "config_from_settings",
    "default_settings",
    "number_of",
    "schedule_from",
    "settings_from_config",
    "text_of",
    "whole_of",
]

POLICY_PREFIX = "policy:"  # the schedule "policy:NAME"
MAX_NEW_TOKENS = 4096
# A guard for the tokenizer only; the engine refuses prompts by their length in tokens.
MAX_PROMPT_CHARACTERS = 1_000_000

DEFAULT_SETTINGS: dict[str, Any] = {
    "chat": True,
    "schedule": "emc",
    "keep": 70,
    "channels": 85,
    "bits": 10,
    "shadow": True,
    "static_row": False,
    "max_new_tokens": 128,
    "temperature": 0,
    "top_k": 0,
    "top_p": 1,
    "repetition_penalty": 1.1,
    "seed": 0,
    "stop": "",
    "quant_site": "mlp_output",
    "episode_steps": 16,
    "refresh": False,
    "ignore_end_of_text": False,
}


def default_settings(policies: list[str], max_tokens: int = MAX_NEW_TOKENS) -> dict[str, Any]:
    """What the form begins with: the shipped policy's schedule where it is among ``policies``."""
    tokens = min(DEFAULT_SETTINGS["max_new_tokens"], max_tokens)
    settings = DEFAULT_SETTINGS | {"max_new_tokens": tokens}
    if DEFAULT_POLICY in policies:
        settings["schedule"] = POLICY_PREFIX + DEFAULT_POLICY
    return settings


def checked_prompt(prompt: str) -> str:
    """The prompt with half characters (lone surrogates, which no UTF-8 can hold) as U+FFFD.

    Raises: ConfigError for a prompt that no model could take.
    """
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ConfigError(
            f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are "
            "read. Shorten it."
        )
    return prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def config_from_settings(settings: dict[str, Any]) -> GenerationConfig:
    """The engine's configuration for the page's settings.

    Raises: ConfigError naming the value that is missing, unknown or out of range.
    """
    if unknown := sorted(set(settings) - set(DEFAULT_SETTINGS)):
        raise ConfigError(f"unknown setting {', '.join(unknown)}")
    values = DEFAULT_SETTINGS | settings
    kind = text_of(values, "schedule")
    budget = Budget() if kind == "dense" else budget_from(values)
    schedule = schedule_from(kind, budget, whole_of(values, "seed"))
    tokens = whole_of(values, "max_new_tokens")
    if tokens > MAX_NEW_TOKENS:
        raise ConfigError(f"max_new_tokens must be at most {MAX_NEW_TOKENS}, got {tokens}")
    return GenerationConfig(
        schedule=schedule,
        side_rows=_side_rows(values, schedule),
        sampling=SamplingConfig(
            temperature=number_of(values, "temperature"),
            top_k=whole_of(values, "top_k"),
            top_p=number_of(values, "top_p"),
            repetition_penalty=number_of(values, "repetition_penalty"),
            seed=whole_of(values, "seed"),
        ),
        grid=ActionGrid(quant_site=text_of(values, "quant_site")),  # type: ignore[arg-type]  # checked by ActionGrid
        max_new_tokens=tokens,
        chat=_flag(values, "chat"),
        stop_strings=_stop_strings(text_of(values, "stop")),
        ignore_end_of_text=_flag(values, "ignore_end_of_text"),
        episode_steps=whole_of(values, "episode_steps"),
        refresh=_flag(values, "refresh"),
    )


def settings_from_config(record: dict[str, Any]) -> dict[str, Any] | None:
    """The page's settings of a saved run; None when this release cannot read them."""
    try:
        config = config_from_dict(GenerationConfig, record)
    except (SolError, TypeError):
        return None
    budget, sampling = config.schedule.budget, config.sampling
    side = {row.name for row in config.side_rows}
    is_dense = config.schedule.kind == "dense"
    return {
        "chat": config.chat,
        "schedule": config.schedule.name,
        "keep": DEFAULT_SETTINGS["keep"] if is_dense else round(budget.keep_fraction * 100, 2),
        "channels": (
            DEFAULT_SETTINGS["channels"] if is_dense else round(budget.channel_keep_ratio * 100, 2)
        ),
        "bits": DEFAULT_SETTINGS["bits"] if is_dense else budget.bit_width,
        "shadow": is_dense or "dense" in side,
        "static_row": "static" in side,
        "max_new_tokens": config.max_new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "stop": "\n".join(text.replace("\n", "\\n") for text in config.stop_strings),
        "quant_site": config.grid.quant_site,
        "episode_steps": config.episode_steps,
        "refresh": config.refresh,
        "ignore_end_of_text": config.ignore_end_of_text,
    }


def budget_from(values: dict[str, Any]) -> Budget:
    """The mean spend that the form's percents and bits ask for."""
    return Budget(
        keep_fraction=number_of(values, "keep") / 100,
        channel_keep_ratio=number_of(values, "channels") / 100,
        bit_width=number_of(values, "bits"),
    )


def schedule_from(name: str, budget: Budget, seed: int) -> ScheduleConfig:
    """The schedule of a kind's name, or of "policy:NAME"."""
    if name == "dense":
        return ScheduleConfig(kind="dense")
    if name.startswith(POLICY_PREFIX):
        policy = name.removeprefix(POLICY_PREFIX).strip()
        if not policy:
            raise ConfigError("Choose a policy. Where none is stored, train one in the Train tab.")
        return ScheduleConfig(kind="policy", budget=budget, policy=policy)
    return ScheduleConfig(kind=name, budget=budget, seed=seed)  # type: ignore[arg-type]  # checked by ScheduleConfig


def _side_rows(values: dict[str, Any], schedule: ScheduleConfig) -> tuple[SideRowConfig, ...]:
    """Shadows that are asked for and would differ from the run itself."""
    rows = []
    if _flag(values, "shadow") and schedule.kind != "dense":
        rows.append(SideRowConfig("dense", ScheduleConfig(kind="dense")))
    if _flag(values, "static_row") and schedule.kind not in ("dense", "static"):
        rows.append(SideRowConfig("static", ScheduleConfig("static", schedule.budget)))
    return tuple(rows)


def _stop_strings(text: str) -> tuple[str, ...]:
    """One per line; ``\\n`` stands for a line break."""
    lines = (line.replace("\\n", "\n") for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))


def number_of(values: dict[str, Any], name: str) -> float:
    """A finite or infinite number of the form; ConfigError for anything else."""
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{name} must be a number, got {value!r}")
    return float(value)


def whole_of(values: dict[str, Any], name: str) -> int:
    """A whole number of the form; ConfigError for anything else."""
    value = number_of(values, name)
    if not math.isfinite(value) or value != int(value):
        raise ConfigError(f"{name} must be a whole number, got {values[name]!r}")
    return int(value)


def _flag(values: dict[str, Any], name: str) -> bool:
    if not isinstance(values[name], bool):
        raise ConfigError(f"{name} must be true or false, got {values[name]!r}")
    return bool(values[name])


def text_of(values: dict[str, Any], name: str) -> str:
    """A text of the form; ConfigError for anything else."""
    if not isinstance(values[name], str):
        raise ConfigError(f"{name} must be text, got {values[name]!r}")
    return str(values[name])
