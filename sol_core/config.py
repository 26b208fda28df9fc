"""Configuration of a generation: frozen dataclasses, each default written once.

``from_dict`` rejects unknown keys; the JSON of the whole configuration is stored
with the run so that it can be repeated.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, get_args

from sol_core.actions import ActionGrid, Budget
from sol_core.errors import ConfigError

__all__ = [
    "GenerationConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "ScheduleKind",
    "SideRowConfig",
    "config_from_dict",
]

ScheduleKind = Literal["dense", "static", "random", "emc", "dac", "policy"]
MAX_SIDE_ROWS = 6
# Every new token is searched for all of them.
MAX_STOP_STRINGS, MAX_STOP_CHARACTERS = 32, 400
ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Which scheduler picks the actions, and the mean spend it must meet.

    Attributes:
        kind: dense, static, random, emc (uncertainty-driven), dac (drift-driven) or policy.
        budget: requested mean per axis; ignored by ``dense``.
        seed: seed of ``random``, and of a sampled policy.
        policy: of ``policy``: a stored policy's name, or a policy folder.
        sampled: whether a policy's actions are drawn; otherwise its most probable ones.
    """

    kind: ScheduleKind = "static"
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    policy: str | None = None
    sampled: bool = False

    def __post_init__(self) -> None:
        _check_choice("schedule", self.kind, get_args(ScheduleKind))
        if (self.kind == "policy") != bool(self.policy):
            raise ConfigError(
                "the schedule policy needs a policy's name or folder, and only it takes one; got "
                f"{self.kind} with {self.policy!r}"
            )

    @property
    def name(self) -> str:
        """The kind, or "policy:NAME"."""
        return f"policy:{self.policy}" if self.kind == "policy" else self.kind


@dataclass(frozen=True, slots=True)
class SideRowConfig:
    """An extra row on the same token path: a shadow that is measured but never sampled from."""

    name: str
    schedule: ScheduleConfig


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How the next token is drawn.

    Attributes:
        temperature: 0 is greedy.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set of tokens with this much probability, in (0, 1].
        repetition_penalty: divides positive and multiplies negative logits of seen tokens
            (CTRL, arXiv:1909.05858); 1 is off.
        seed: the same seed gives the same tokens.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 100):
            raise ConfigError(f"temperature must be between 0 and 100, got {self.temperature!r}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must be 0 (off) or more, got {self.top_k!r}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise ConfigError(
                f"repetition_penalty must be above 0, got {self.repetition_penalty!r}"
            )


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """Everything that decides a generation besides the model and the prompt.

    Attributes:
        schedule: picks the action of every decode step.
        side_rows: shadows on the same token path; one named "dense" gives KL to dense.
        sampling: how tokens are drawn.
        grid: levels, page size and quantisation site.
        max_new_tokens: at most this many tokens.
        chat: wrap the prompt in the model's chat template.
        stop_strings: end when the visible text contains one; it is left out.
        ignore_end_of_text: keep going past the end-of-text token.
        episode_steps: steps per episode; the schedulers restart there.
        refresh: at an episode's end, replay its tokens densely so that no compressed
            key or value outlives it (its cost is counted).
        dense_positions: context positions below this one are always decoded densely.
    """

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    side_rows: tuple[SideRowConfig, ...] = ()
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    grid: ActionGrid = field(default_factory=ActionGrid)
    max_new_tokens: int = 64
    chat: bool = False
    stop_strings: tuple[str, ...] = ()
    ignore_end_of_text: bool = False
    episode_steps: int = 16
    refresh: bool = False
    dense_positions: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be 1 or more, got {self.max_new_tokens!r}")
        if self.episode_steps < 1:
            raise ConfigError(f"episode_steps must be 1 or more, got {self.episode_steps!r}")
        if self.dense_positions < 0:
            raise ConfigError(f"dense_positions must be 0 or more, got {self.dense_positions!r}")
        if len(self.side_rows) > MAX_SIDE_ROWS:
            raise ConfigError(f"at most {MAX_SIDE_ROWS} side rows, got {len(self.side_rows)}")
        names = [row.name for row in self.side_rows]
        if len(set(names)) != len(names):
            raise ConfigError(f"side rows need distinct names, got {names}")
        _check_stop_strings(self.stop_strings)
        for schedule in (self.schedule, *(row.schedule for row in self.side_rows)):
            if schedule.kind != "dense":
                self.grid.check_budget(schedule.budget)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def config_from_dict(kind: type[ConfigT], record: dict[str, Any]) -> ConfigT:
    """Rebuild a configuration dataclass from its JSON form; unknown keys are refused."""
    if not isinstance(record, dict):
        raise ConfigError(f"{kind.__name__} must be an object, got {type(record).__name__}")
    hints = typing.get_type_hints(kind)
    known = {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]  # is one
    if unknown := sorted(set(record) - known):
        raise ConfigError(
            f"unknown key {', '.join(unknown)} in {kind.__name__}; "
            f"allowed: {', '.join(sorted(known))}"
        )
    return kind(**{name: _restore(hints[name], value) for name, value in record.items()})


def _restore(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return config_from_dict(hint, value)
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        item = get_args(hint)[0]
        return tuple(_restore(item, entry) for entry in value)
    if origin in (types.UnionType, typing.Union) and value is not None:
        return _restore(next(arg for arg in get_args(hint) if arg is not type(None)), value)
    return value


def _check_stop_strings(texts: tuple[str, ...]) -> None:
    if len(texts) > MAX_STOP_STRINGS:
        raise ConfigError(f"at most {MAX_STOP_STRINGS} stop strings, got {len(texts):,}")
    for text in texts:
        if not (isinstance(text, str) and 0 < len(text) <= MAX_STOP_CHARACTERS):
            raise ConfigError(
                f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters, got {text!r:.60}"
            )


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
