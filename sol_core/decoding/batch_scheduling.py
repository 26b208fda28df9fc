"""Schedulers of many rows, which the decode loop calls before each step.

A policy decides for all of its rows in one pass; a ``Schedule`` (``schedules.py``, or a function of
the caller's) knows one row. ``RowSchedules`` puts the latter side by side, ``SplitScheduler`` gives
blocks of rows to different schedulers, so that all methods of a text run in one batch.
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
    """Reads of a row's step beyond what its action says; None where they are not known."""

    tokens: float | None = None  # cached ones, summed over layers and KV heads
    head_rows: float | None = None  # outputs of the head that were exact after a preview
    observed: bool = False  # a step that reads all pages scores them for a policy
    policy: StepCost = StepCost()  # of the network of that policy


UNKNOWN_READS = StepReads()


@dataclass(frozen=True, slots=True)
class StepObservation:
    """Inputs of schedulers before a decode step of R rows. Everything is detached.

    At step 0, values of the previous step are those of the dense prefix's last token. They are None
    after an empty prefix, and if no scheduler requested them (``observes``).

    Attributes:
        step: 0-based number of the step within the generation.
        tokens: [R] int64, about to be fed.
        cached_tokens: per row, tokens in the KV cache before this step.
        hidden: [R, C] fp32, last hidden state after the final norm.
        mid_hidden: [R, 2, C] fp32, residual stream after one and two thirds of the layers.
        concentration: [R, num_layers] fp32, attention mass outside the best pages.
        entropy: [R] fp32, of the previous distribution, nats.
        reads: per row, by the previous step.
        surprisal: [R] fp32, of ``tokens`` under that distribution, nats.
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
        """The observation of some rows; itself where these are all."""
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


Schedule = Callable[[StepObservation], Action]  # of one row


class BatchScheduler(Protocol):
    """Picks the actions of all its rows, one call per decode step, in order."""

    @property
    def observes(self) -> Observe:
        """Return what it reads of a step; ``surprisal`` is there with the states."""
        ...

    def next_actions(self, observation: StepObservation) -> Sequence[Action]:
        """One action per row of the step about to run."""
        ...

    def reads(self) -> Sequence[StepReads]:
        """Return what policies add to each row of every step; asked after the first choice."""
        ...


class RowSchedules:
    """Schedules of one row each, side by side.

    Args:
        schedules: asked once a step, in order, so they may keep a state.
        observes: what they read; a caller's own may read all that a policy does.
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
    """Rows whose actions are known beforehand; a row's last one repeats."""

    def __init__(
        self, plans: Sequence[Sequence[Action]], observes: Observe = Observe.NOTHING
    ) -> None:
        self._plans, self.observes = plans, observes

    def next_actions(self, observation: StepObservation) -> list[Action]:
        return [plan[min(observation.step, len(plan) - 1)] for plan in self._plans]

    def reads(self) -> Sequence[StepReads]:
        return [UNKNOWN_READS] * len(self._plans)


def is_schedule(value: object) -> bool:
    """Return whether a value is a function of an observation, or a class of them."""
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
    """The schedule of one sequence: of a class an instance, of a function with a state a copy.

    Args:
        schedule: a function, or a class of them.
        budget: the requested mean, passed to what takes a ``budget``; None leaves its default.
        copies: False takes a function itself.
    Raises: ConfigError for what needs other arguments than an observation and a budget.
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
            f"the schedule {name} is called with an observation, and made with a budget or nothing "
            f"({error}): give a budget, or defaults for what else it takes"
        ) from error


def join_schedulers(parts: Sequence[tuple[Sequence[int], BatchScheduler]]) -> BatchScheduler:
    """One scheduler of all parts: a ``SplitScheduler``, or the only part that has rows."""
    with_rows = [(rows, scheduler) for rows, scheduler in parts if rows]
    return with_rows[0][1] if len(with_rows) == 1 else SplitScheduler(with_rows)


class SplitScheduler:
    """Gives rows to different batch schedulers.

    Args:
        parts: row numbers, ascending, and their scheduler; together the numbers are 0 … R − 1.
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
