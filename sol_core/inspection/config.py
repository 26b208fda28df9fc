"""Configuration of an inspection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from sol_core.actions import DEFAULT_GRID, GRIDS, ActionGrid, record_of
from sol_core.config import MAX_EPISODE_STEPS, GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.errors import ConfigError
from sol_core.fields import Positive, Range, check_fields

MAX_SCHEDULES = 3  # beside the dense row: four rows are what the CPU's kernels take at once


@dataclass(frozen=True, slots=True)
class InspectionConfig:
    """Everything that decides an inspection besides the model and the text.

    Attributes:
        schedules: one to three, other than dense; a dense row always rides along, first.
        grid: levels, page size and quantisation site.
        episode_steps: steps per episode; the schedulers restart there.
        prefix_tokens: tokens of the text that are read densely and not scored; at least 1,
            because nothing foretells the first one.
        max_tokens: what comes after this many tokens of the text is left out; None reads on
            to the end of the model's context.
        chat: the text is a prompt in the model's chat template; only with ``generated``.
        generated: tokens that a model wrote after the text. Where there are some, only they
            are scored, and the whole text is the prefix.
    """

    schedules: tuple[ScheduleConfig, ...]
    grid: ActionGrid = field(default_factory=lambda: GRIDS[DEFAULT_GRID])
    episode_steps: Annotated[int, Range(1, MAX_EPISODE_STEPS)] = 16
    prefix_tokens: Positive = 1
    max_tokens: Positive | None = None
    chat: bool = False
    generated: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if any(schedule.kind == "dense" for schedule in self.schedules):
            raise ConfigError("the dense row is always there: leave dense out of the schedules")
        if not 0 <= len(self.schedules) <= MAX_SCHEDULES:
            raise ConfigError(
                f"at most {MAX_SCHEDULES} schedules beside dense, got {len(self.schedules)}"
            )
        if len(set(self.rows)) != len(self.rows):
            raise ConfigError(f"schedules must differ, got {', '.join(self.rows[1:])}")
        if self.max_tokens is not None and self.max_tokens <= self.prefix_tokens:
            raise ConfigError(
                f"max_tokens must be above the {self.prefix_tokens} that are not scored, "
                f"got {self.max_tokens!r}"
            )
        if self.chat and not self.generated:
            raise ConfigError("chat is for a prompt with generated tokens after it")
        self.as_generation()  # checks budgets

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows' names, in the order of every token's scores."""
        return ("dense", *(schedule.name for schedule in self.schedules))

    def as_generation(self) -> GenerationConfig:
        """The same rows as a generation has them: a dense one, and the others beside it."""
        return GenerationConfig(
            schedule=ScheduleConfig("dense"),
            side_rows=tuple(SideRowConfig(schedule.name, schedule) for schedule in self.schedules),
            grid=self.grid,
            episode_steps=self.episode_steps,
        )

    def to_dict(self) -> dict[str, Any]:
        return record_of(self)
