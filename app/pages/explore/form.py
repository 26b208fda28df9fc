"""The page's settings and what they mean to the engine.

The page speaks percent and plain words; ``config_from_settings`` checks every value and makes
the engine's configuration, ``settings_from_config`` goes back for a run that is opened.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Protocol

from app.policies.library import DEFAULT_POLICY
from sol_core.actions import ActionGrid, Budget, QuantSite
from sol_core.config import (
    POLICY_PREFIX,
    GenerationConfig,
    SamplingConfig,
    ScheduleConfig,
    SideRowConfig,
)
from sol_core.errors import ConfigError, SolError
from sol_core.fields import Range, config_from_dict, from_json

MAX_NEW_TOKENS = 4096
# A guard for the tokenizer only; the engine refuses prompts by their length in tokens.
MAX_PROMPT_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class ExploreForm:
    """The form's values as the page sends them; what they mean is checked by the engine."""

    chat: bool = True
    schedule: str = "emc"
    keep: float = 70
    channels: float = 85
    bits: float = 10
    shadow: bool = True
    static_row: bool = False
    max_new_tokens: Annotated[int, Range(1, MAX_NEW_TOKENS)] = 128
    temperature: float = 0
    top_k: int = 0
    top_p: float = 1
    repetition_penalty: float = 1.1
    seed: int = 0
    stop: str = ""
    quant_site: QuantSite = "mlp_output"
    episode_steps: int = 16
    refresh: bool = False
    ignore_end_of_text: bool = False


DEFAULT_SETTINGS: dict[str, Any] = asdict(ExploreForm())
# Fields of the form that the engine's configurations have under the same names.
_OF_SAMPLING = tuple(item.name for item in fields(SamplingConfig))
_OF_RUN = ("chat", "max_new_tokens", "ignore_end_of_text", "episode_steps", "refresh")


def default_settings(policies: list[str], max_tokens: int = MAX_NEW_TOKENS) -> dict[str, Any]:
    """Return the form's defaults: the shipped policy's schedule where it is among ``policies``."""
    tokens = min(DEFAULT_SETTINGS["max_new_tokens"], max_tokens)
    settings = DEFAULT_SETTINGS | {"max_new_tokens": tokens}
    if DEFAULT_POLICY in policies:
        settings["schedule"] = POLICY_PREFIX + DEFAULT_POLICY
    return settings


def checked_prompt(prompt: str) -> str:
    """Return the prompt, checked.

    Raises: ConfigError for a prompt that no model could take.
    """
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ConfigError(
            f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are "
            "read. Shorten it."
        )
    return prompt


def config_from_settings(settings: dict[str, Any]) -> GenerationConfig:
    """The engine's configuration for the page's settings.

    Raises: ConfigError naming the value that is missing, unknown or out of range.
    """
    form = from_json(ExploreForm, settings)
    budget = Budget() if form.schedule == "dense" else budget_from(form)
    schedule = schedule_from(form.schedule, budget, form.seed)
    return GenerationConfig(
        schedule=schedule,
        side_rows=_side_rows(form, schedule),
        sampling=SamplingConfig(**{name: getattr(form, name) for name in _OF_SAMPLING}),
        grid=ActionGrid(quant_site=form.quant_site),
        stop_strings=_stop_strings(form.stop),
        **{name: getattr(form, name) for name in _OF_RUN},
    )


def settings_from_config(record: dict[str, Any]) -> dict[str, Any] | None:
    """The page's settings of a saved run; None when this release cannot read them."""
    try:
        config = config_from_dict(GenerationConfig, record)
    except SolError:
        return None
    budget = config.schedule.budget
    side = {row.name for row in config.side_rows}
    is_dense = config.schedule.kind == "dense"
    if is_dense:
        asked = {name: DEFAULT_SETTINGS[name] for name in ("keep", "channels", "bits")}
    else:
        asked = {
            "keep": round(budget.keep_fraction * 100, 2),
            "channels": round(budget.channel_keep_ratio * 100, 2),
            "bits": budget.bit_width,
        }
    return asked | {
        "schedule": config.schedule.name,
        "shadow": is_dense or "dense" in side,
        "static_row": "static" in side,
        "stop": "\n".join(text.replace("\n", "\\n") for text in config.stop_strings),
        "quant_site": config.grid.quant_site,
        **{name: getattr(config.sampling, name) for name in _OF_SAMPLING},
        **{name: getattr(config, name) for name in _OF_RUN},
    }


class BudgetFields(Protocol):
    """The part of a form that asks for a mean spend: percent, percent, bits."""

    @property
    def keep(self) -> float: ...
    @property
    def channels(self) -> float: ...
    @property
    def bits(self) -> float: ...


def budget_from(form: BudgetFields) -> Budget:
    """The mean spend that the form's percents and bits ask for."""
    return Budget(form.keep / 100, form.channels / 100, form.bits)


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


def _side_rows(form: ExploreForm, schedule: ScheduleConfig) -> tuple[SideRowConfig, ...]:
    """Shadows that are asked for and would differ from the run itself."""
    rows = []
    if form.shadow and schedule.kind != "dense":
        rows.append(SideRowConfig("dense", ScheduleConfig(kind="dense")))
    if form.static_row and schedule.kind not in ("dense", "static"):
        rows.append(SideRowConfig("static", ScheduleConfig("static", schedule.budget)))
    return tuple(rows)


def _stop_strings(text: str) -> tuple[str, ...]:
    """One per line; ``\\n`` stands for a line break."""
    lines = (line.replace("\\n", "\n") for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))
