"""Batch schedulers: the decode loop calls one before each step, for the actions of all rows.

A policy decides for all of its rows in one pass. A ``Schedule`` (``schedules.py``, or the caller's
own function) decides for one row; ``RowSchedules`` runs one per row. ``SplitScheduler`` combines
batch schedulers, so that every method compared on a text runs in the same batch.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from sol_core.actions import Action, Budget
from sol_core.errors import ConfigError, ShapeError
from sol_core.events import StepCost
from sol_core.fields import kind_of
from sol_core.models.signals import Observe


class StepReads(NamedTuple):
    """Reads of one row's step that its action does not determine; None where unknown."""

    tokens: float | None = None  # cached tokens read, summed over layers and KV heads
    head_rows: float | None = None  # rows of the head read in full after the preview
    observed: bool = False  # pages are scored for a policy even where all of them are read
    policy: StepCost = StepCost()  # cost of the policy network


UNKNOWN_READS = StepReads()


@dataclass(frozen=True, slots=True)
class StepObservation:
    """Input of schedulers before a decode step of R rows; all tensors are detached.

    Values of the previous step come, at step 0, from the last token of the dense prefix. They are
    None after an empty prefix, and where no scheduler requests them (``BatchScheduler.observes``).

    Attributes:
        step: 0-based index of the step within the generation.
        tokens: [R] int64, the step's input.
        cached_tokens: per row, tokens in the KV cache before this step.
        hidden: [R, C] fp32, last hidden state after the final norm.
        mid_hidden: [R, 2, C] fp32, residual stream after one and two thirds of the layers.
        concentration: [R, num_layers] fp32, attention mass outside the best pages.
        entropy: [R] fp32, entropy of the previous distribution, nats.
        surprisal: [R] fp32, surprisal of ``tokens`` under that distribution, nats.
        reads: per row, reads of the previous step.
    """

    step: int
    tokens: Tensor
    cached_tokens: tuple[int, ...]
    hidden: Tensor | None = None
    mid_hidden: Tensor | None = None
    concentration: Tensor | None = None
    entropy: Tensor | None = None
    surprisal: Tensor | None = None
    reads: tuple[StepReads, ...] | None = None

    def rows(self, numbers: Sequence[int]) -> StepObservation:
        """Select rows; returns this observation itself when all rows are selected."""
        span = slice(numbers[0], numbers[-1] + 1)
        adjacent = list(numbers) == list(range(span.start, span.stop))
        if adjacent and len(numbers) == len(self.cached_tokens):
            return self
        index: Any = span if adjacent else self.tokens.new_tensor(numbers)
        parts: dict[str, Any] = {}
        for name in self.__slots__[1:]:  # all but the step
            values = getattr(self, name)
            if isinstance(values, Tensor) or (adjacent and values is not None):
                parts[name] = values[index]
            elif values is not None:
                parts[name] = tuple(values[number] for number in numbers)
        return replace(self, **parts)


Schedule = Callable[[StepObservation], Action]  # schedules one row


class BatchScheduler(Protocol):
    """Chooses the actions of all rows, called once per decode step, in order."""

    @property
    def observes(self) -> Observe:
        """Parts of the observation that it needs; surprisal comes with the states."""
        ...

    def next_actions(self, observation: StepObservation) -> Sequence[Action]:
        """Return one action per row for the next step."""
        ...

    def reads(self) -> Sequence[StepReads]:
        """Return per row what policies add to every step's reads; called after step 0's choice."""
        ...


class RowSchedules:
    """Runs one schedule per row.

    Args:
        schedules: called once per step, in order, so they may keep state.
        observes: parts of the observation that they need.
    """

    def __init__(self, schedules: Sequence[Schedule], observes: Observe = Observe.NOTHING) -> None:
        self._schedules, self.observes = list(schedules), observes

    def next_actions(self, observation: StepObservation) -> list[Action]:
        actions = []
        for row, schedule in enumerate(self._schedules):
            action = schedule(observation.rows([row]))
            if not isinstance(action, Action):
                raise ConfigError(f"a schedule must return an Action, got {kind_of(action)}")
            actions.append(action)
        return actions

    def reads(self) -> Sequence[StepReads]:
        return [UNKNOWN_READS] * len(self._schedules)


class PlannedRows:
    """Rows with planned actions; the last action of a plan repeats."""

    def __init__(
        self, plans: Sequence[Sequence[Action]], observes: Observe = Observe.NOTHING
    ) -> None:
        self._plans, self.observes = plans, observes

    def next_actions(self, observation: StepObservation) -> list[Action]:
        return [plan[min(observation.step, len(plan) - 1)] for plan in self._plans]

    def reads(self) -> Sequence[StepReads]:
        return [UNKNOWN_READS] * len(self._plans)


def is_schedule(value: object) -> bool:
    """Return whether a value is callable on an observation, or a class whose instances are."""
    if isinstance(value, type):
        return any("__call__" in vars(base) for base in value.__mro__)
    return callable(value)


def takes_budget(schedule: Schedule) -> bool:
    """Return whether a function or class has a parameter ``budget``."""
    try:
        return "budget" in inspect.signature(schedule).parameters
    except (TypeError, ValueError):  # written in C
        return False


def fresh_schedule(schedule: Schedule, budget: Budget | None, *, copies: bool = True) -> Schedule:
    """Make the schedule of one sequence: instantiate a class, copy a callable with its state.

    Args:
        schedule: a callable, or a class whose instances are.
        budget: the requested mean, passed as ``budget`` if accepted; None leaves the default.
        copies: False uses a callable itself.
    Raises: ConfigError if other arguments than an observation and a budget are required.
    """
    given: dict[str, Any] = {}
    if budget is not None and takes_budget(schedule):
        given["budget"] = budget
    _check_arguments(schedule, given)
    if isinstance(schedule, type):
        made: Schedule = schedule(**given)
        return made
    own = copy.copy(schedule) if copies else schedule
    return functools.partial(own, **given) if given else own


def _check_arguments(schedule: Schedule, given: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(schedule)
    except (TypeError, ValueError):  # written in C
        return
    try:
        signature.bind(*(() if isinstance(schedule, type) else (None,)), **given)
    except TypeError as error:
        name = getattr(schedule, "__name__", type(schedule).__name__)
        raise ConfigError(
            f"the schedule {name} must take an observation and nothing else, or also a budget "
            f"({error}): pass a budget, or give its other parameters defaults"
        ) from error


def join_schedulers(parts: Sequence[tuple[Sequence[int], BatchScheduler]]) -> BatchScheduler:
    """Combine schedulers of some rows each; if only one has rows, return it."""
    with_rows = [(rows, scheduler) for rows, scheduler in parts if rows]
    return with_rows[0][1] if len(with_rows) == 1 else SplitScheduler(with_rows)


class SplitScheduler:
    """Assigns rows to several batch schedulers.

    Args:
        parts: ascending row numbers with their scheduler; together they cover rows 0 to R − 1.
    """

    def __init__(self, parts: Sequence[tuple[Sequence[int], BatchScheduler]]) -> None:
        rows = sorted(row for numbers, _ in parts for row in numbers)
        if rows != list(range(len(rows))):
            raise ShapeError(f"the parts must cover rows 0 to {len(rows) - 1} once, got {rows}")
        self._parts = [(list(numbers), scheduler) for numbers, scheduler in parts if numbers]
        self._num_rows = len(rows)

    @property
    def observes(self) -> Observe:
        return max((part.observes for _, part in self._parts), default=Observe.NOTHING)

    def next_actions(self, observation: StepObservation) -> list[Action]:
        chosen: dict[int, Action] = {}
        for rows, scheduler in self._parts:
            chosen |= zip(rows, scheduler.next_actions(observation.rows(rows)), strict=True)
        return [chosen[row] for row in range(self._num_rows)]

    def reads(self) -> Sequence[StepReads]:
        read: dict[int, StepReads] = {}
        for rows, scheduler in self._parts:
            read |= zip(rows, scheduler.reads(), strict=True)
        return [read[row] for row in range(self._num_rows)]
