"""Teacher-forced scoring: the NLL of given tokens under given schedules.

Cases have the format of the authors' golden file: ``input_ids``, ``context_len``, ``page_size`` and
``schedules`` (one list of ``[keep_fraction, channel_keep_ratio, bit_width]`` per schedule; the
first two may be lists with a number per layer). After a dense prefill of
``input_ids[:context_len]``, step t feeds ``input_ids[context_len + t]`` and scores the next token.
All schedules of a case run as rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sol_core.actions import (
    AXES,
    AXIS_FIELDS,
    DEFAULT_GRID,
    DENSE,
    GRIDS,
    PAPER,
    Action,
    ActionGrid,
    Mechanisms,
)
from sol_core.config import GenerationConfig
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows
from sol_core.decoding.loop import DecodeOptions, DecodeStep, teacher_forced
from sol_core.decoding.prefix import read_prefix
from sol_core.errors import ConfigError
from sol_core.fields import check_text
from sol_core.generation.finished import Score
from sol_core.generation.schedules import GenerationSchedules, PolicyFinder, with_grid
from sol_core.generation.sequence import check_tokens
from sol_core.models.loading import LanguageModel
from sol_core.models.provenance import made_on


@dataclass(frozen=True, slots=True)
class ScoreCase:
    """A text and the schedules to score it under; see the module docstring."""

    input_ids: tuple[int, ...]
    context_len: int
    schedules: tuple[tuple[Action, ...], ...]
    page_size: int = 8

    @property
    def num_steps(self) -> int:
        return len(self.schedules[0])


def parse_case(record: Any, label: str = "case") -> ScoreCase:
    if not isinstance(record, dict):
        raise ConfigError(f"{label} must be an object, got {type(record).__name__}")
    missing = [key for key in ("input_ids", "context_len", "schedules") if key not in record]
    if missing:
        raise ConfigError(f"{label} lacks {', '.join(missing)}")
    ids, context_len = record["input_ids"], record["context_len"]
    if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
        raise ConfigError(f"{label}: input_ids must be a list of token ids (0 or more)")
    if type(context_len) is not int or not 0 <= context_len < len(ids):
        raise ConfigError(
            f"{label}: context_len must be between 0 and {len(ids) - 1}, got {context_len!r}"
        )
    schedules = _parse_schedules(record["schedules"], label)
    needed = context_len + len(schedules[0]) + 1
    if len(ids) < needed:
        raise ConfigError(
            f"{label}: {len(schedules[0])} steps after {context_len} tokens need "
            f"{needed} input_ids, got {len(ids)}"
        )
    page_size = ActionGrid(page_size=record.get("page_size", 8)).page_size
    return ScoreCase(tuple(ids), context_len, schedules, page_size)


def score_case(
    model: LanguageModel, case: ScoreCase, mechanisms: Mechanisms = PAPER
) -> list[list[float]]:
    """Return the NLL of each step under each schedule, nats."""
    nll: list[list[float]] = _score(model, case, PlannedRows(case.schedules), mechanisms)[0]
    return nll


def dense_nll(model: LanguageModel, tokens: Sequence[int], first: int) -> list[float]:
    """Return the NLL of ``tokens[first:]`` under the full model, nats, as a run's dense row."""
    if not 1 <= first < len(tokens):
        raise ConfigError(f"first must be between 1 and {len(tokens) - 1}, got {first}")
    steps = (DENSE,) * (len(tokens) - first)
    case = ScoreCase(tuple(tokens), first - 1, (steps,))
    return score_case(model, case, GRIDS[DEFAULT_GRID].mechanisms)[0]


def encode_text(model: LanguageModel, context: str, text: str) -> tuple[list[int], int]:
    """Encode context and text as one; return the ids and the index of the first to score."""
    check_text("the context", context)
    check_text("the text", text)
    before = model.encode(context) if context else []
    ids = model.encode(context + text)
    first = min(max(len(before), 1), len(ids) - 1)
    if not text or first < 1:
        raise ConfigError("the text has no token that others come before: give more, or a context")
    return ids, first


def score_text(
    model: LanguageModel,
    tokens: Sequence[int],
    first: int,
    config: GenerationConfig,
    policies: PolicyFinder = Path,
) -> Score:
    """The score of ``tokens[first:]`` under a generation's main schedule."""
    config = with_grid(replace(config, side_rows=()), policies)
    steps = (DENSE,) * (len(tokens) - first)  # only their number counts here
    grid, costs, dense_costs = config.grid_in_use, [], []
    case = ScoreCase(tuple(tokens), first - 1, (steps,), grid.page_size)
    schedules = GenerationSchedules(model, config, policies)

    def count(step: DecodeStep) -> None:
        costs.append(step.cost(schedules.costs))
        dense_costs.append(schedules.costs.dense_step(step.cached_tokens[0]))

    nll, actions = _score(
        model, case, schedules.build(len(steps), [first - 1]), grid.mechanisms, count
    )
    scored, losses = tuple(tokens[first:]), tuple(nll[0])
    return Score(scored, actions, losses, tuple(costs), tuple(dense_costs), made_on(model))


def _score(
    model: LanguageModel,
    case: ScoreCase,
    scheduler: BatchScheduler,
    mechanisms: Mechanisms,
    on_step: Callable[[DecodeStep], None] = lambda _: None,
) -> tuple[list[list[float]], tuple[Action, ...]]:
    """NLL [rows][steps] and the first row's actions."""
    check_tokens(model, case.input_ids, "the text", case.context_len + case.num_steps)
    lm, start = model.lm, case.context_len
    options = DecodeOptions(case.num_steps, mechanisms)
    observe = mechanisms if scheduler.observes else None
    prefix = case.input_ids[:start]
    read = read_prefix(lm, prefix, case.page_size, observe, prefixes=model.prefixes)
    cache = read.cache.branch(len(case.schedules), case.num_steps)
    columns, actions = [], []
    path = case.input_ids[start:]
    for scored in teacher_forced(lm, cache, [path], scheduler, options, read.state):
        columns.append(scored.nll[0])
        actions.append(scored.step.actions[0])
        on_step(scored.step)
    return torch.stack(columns, dim=1).tolist(), tuple(actions)


def _parse_schedules(record: Any, label: str) -> tuple[tuple[Action, ...], ...]:
    if not isinstance(record, list) or not record:
        raise ConfigError(f"{label}: schedules must be a list with at least one schedule")
    schedules = []
    for number, schedule in enumerate(record):
        where = f"{label}, schedule {number}"
        if not isinstance(schedule, list) or len(schedule) != len(record[0]) or not schedule:
            raise ConfigError(f"{where}: every schedule must be a list of the same, nonzero length")
        schedules.append(tuple(_parse_action(entry, where) for entry in schedule))
    return tuple(schedules)


def _parse_action(entry: Any, where: str) -> Action:
    values = entry if isinstance(entry, list) else []
    parts = [part for value in values for part in (value if isinstance(value, list) else [value])]
    numbers = all(type(part) in (int, float) for part in parts)
    if not numbers or len(values) != len(AXES):
        raise ConfigError(f"{where}: an action is [{', '.join(AXIS_FIELDS)}], got {entry!r}")
    try:
        return Action.of(values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
