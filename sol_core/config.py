"""Configuration of a generation: frozen dataclasses, each default written once.

Annotations state the values that fields may hold (``fields.py``). A run stores its whole
configuration as JSON, so it can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from sol_core.actions import Action, ActionGrid, Budget, Record
from sol_core.errors import ConfigError
from sol_core.fields import Positive, Range, added_field, check_fields, check_text, configuration

ScheduleKind = Literal["dense", "static", "random", "emc", "dac", "policy", "painted"]
MAX_SIDE_ROWS = 6
MAX_EPISODE_STEPS = 1_000_000
# Each new token is searched for every stop string.
MAX_STOP_STRINGS, MAX_STOP_CHARACTERS = 32, 400
POLICY_PREFIX = "policy:"  # precedes a policy's name in a schedule's name
DEFAULT_POLICY = "default"  # the shipped policy
# Display names of the kinds.
SCHEDULE_LABELS = {
    "policy": "Policy",
    "dense": "Full model",
    "static": "Static",
    "random": "Random",
    "emc": "Uncertainty (EMC)",
    "dac": "Drift (DAC)",
}
DENSE_ROW = "dense"  # a side row of this name is the reference for KL


@configuration
@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Which scheduler picks the actions, and the mean spend it must meet.

    Attributes:
        kind: dense, static, random, emc (uncertainty-driven), dac (drift-driven), policy or
            painted.
        budget: requested mean per axis; ignored by ``dense`` and ``painted``.
        seed: seed for ``random``.
        policy: for ``policy``, a stored policy's name or a policy folder.
        painted: for ``painted``, the action of each step; the last one repeats.
    Raises: ConfigError for an invalid value, or for a policy or painting with another kind.
    """

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {"sampled": False}

    kind: ScheduleKind = "static"
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    policy: str | None = None
    painted: tuple[Action, ...] = added_field(())

    def __post_init__(self) -> None:
        check_fields(self, "schedule")
        self.budget.check_request()
        if (self.kind == "policy") != bool(self.policy):
            raise ConfigError(
                "the schedule policy needs a policy's name or folder, and only it takes one; got "
                f"{self.kind} with {self.policy!r}"
            )
        if (self.kind == "painted") != bool(self.painted):
            raise ConfigError(
                "the schedule painted needs an action per step, and only it takes them; got "
                f"{self.kind} with {len(self.painted)}"
            )

    @property
    def name(self) -> str:
        """The kind, or "policy:NAME"."""
        return f"{POLICY_PREFIX}{self.policy}" if self.kind == "policy" else self.kind


@configuration
@dataclass(frozen=True, slots=True)
class SideRowConfig:
    """An extra row on the same token path: a shadow that is measured but never sampled from.

    Attributes:
        name: the row's name in events; KL is measured to the row named "dense".
        schedule: the row's schedule; the row has its own KV cache.
    """

    name: str
    schedule: ScheduleConfig

    def __post_init__(self) -> None:
        if self.name == DENSE_ROW and self.schedule.kind != "dense":
            raise ConfigError('a side row named "dense" must have the dense schedule')


@configuration
@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How the next token is sampled.

    Attributes:
        temperature: 0 is greedy.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set of tokens with this much probability, in (0, 1].
        repetition_penalty: divides positive and multiplies negative logits of seen tokens
            (CTRL, arXiv:1909.05858); 1 is off.
        seed: the same seed gives the same tokens.
    Raises: ConfigError for an invalid value.
    """

    temperature: Annotated[float, Range(0, 100)] = 0.0
    top_k: Annotated[int, Range(0, 2**31 - 1)] = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")
        if self.repetition_penalty <= 0:
            raise ConfigError(
                f"repetition_penalty must be above 0, got {self.repetition_penalty!r}"
            )


class WithGrid(Record):
    """A configuration whose grid may be unset until it is resolved."""

    __slots__ = ()
    grid: ActionGrid | None

    @property
    def grid_in_use(self) -> ActionGrid:
        """The grid, chosen or resolved. Raises: ConfigError if it is unset."""
        if self.grid is None:
            raise ConfigError("the configuration's grid is unset: give one, or resolve it first")
        return self.grid


@configuration
@dataclass(frozen=True, slots=True)
class GenerationConfig(WithGrid):
    """Everything besides the model and the prompt that determines a generation.

    Attributes:
        schedule: picks the action of each decode step; dense by default.
        side_rows: shadows on the same token path; one named "dense" gives KL to dense.
        sampling: how tokens are sampled.
        grid: levels, page size and mechanisms; None uses the policy's grid, else the budget's
            (``policy.files.locate.resolved_grid``).
        max_new_tokens: maximum number of generated tokens.
        chat: wrap the prompt in the model's chat template.
        stop_strings: stop when the visible text contains one; it is removed from the text.
        ignore_end_of_text: continue past the end-of-text token.
        episode_steps: steps per episode; the schedulers restart there.
        page_reads: record which pages each step read (under 1 kB per token, plus a byte per page).
        given: ids of the first tokens, which are not sampled; their steps are decoded like any
            other and count towards ``max_new_tokens``.
        left_out: pages of the prompt in the KV cache that no step may read; page 0 holds the first
            ``grid.page_size`` tokens.
    Raises: ConfigError for an invalid value, or for a budget that the grid cannot reach.
    """

    FORMER_FIELDS: ClassVar[dict[str, Any]] = {"dense_positions": 0, "refresh": bool}

    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig("dense"))
    side_rows: tuple[SideRowConfig, ...] = ()
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    grid: ActionGrid | None = None
    max_new_tokens: Positive = 64
    chat: bool = False
    stop_strings: tuple[str, ...] = ()
    ignore_end_of_text: bool = False
    episode_steps: Annotated[int, Range(1, MAX_EPISODE_STEPS)] = 16
    page_reads: bool = False
    given: tuple[Annotated[int, Range(0, 2**31 - 1)], ...] = ()
    left_out: tuple[Annotated[int, Range(0, 2**31 - 1)], ...] = added_field(())

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.given) > self.max_new_tokens:
            raise ConfigError(
                f"at most {self.max_new_tokens} tokens are made, {len(self.given)} are given"
            )
        if len(self.side_rows) > MAX_SIDE_ROWS:
            raise ConfigError(f"at most {MAX_SIDE_ROWS} side rows, got {len(self.side_rows)}")
        names = [row.name for row in self.side_rows]
        if len(set(names)) != len(names):
            raise ConfigError(f"side rows need distinct names, got {names}")
        _check_stop_strings(self.stop_strings)
        for schedule in self.schedules:
            if self.grid is not None and schedule.kind != "dense":
                self.grid.check_budget(schedule.budget)

    @property
    def schedules(self) -> tuple[ScheduleConfig, ...]:
        """The main row's schedule and the side rows'."""
        return (self.schedule, *(row.schedule for row in self.side_rows))


def _check_stop_strings(texts: tuple[str, ...]) -> None:
    if len(texts) > MAX_STOP_STRINGS:
        raise ConfigError(f"at most {MAX_STOP_STRINGS} stop strings, got {len(texts):,}")
    for text in texts:
        if not (isinstance(text, str) and 0 < len(text) <= MAX_STOP_CHARACTERS):
            raise ConfigError(
                f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters, got {text!r:.60}"
            )
        check_text("a stop string", text)
