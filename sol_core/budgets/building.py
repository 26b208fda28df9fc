"""Schedulers of one row from its configuration, and schedules under a share of the dense bytes.

``ShareScheduler`` is static: at every step the mix with the least measured damage at the share and
context. The schedules that spend unevenly get that mix as their budget per axis.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sol_core.actions import Action, ActionGrid, Budget
from sol_core.config import ScheduleConfig
from sol_core.decoding.batch_scheduling import (
    Schedule,
    StepObservation,
    fresh_schedule,
    takes_budget,
)
from sol_core.decoding.schedules import (
    DenseScheduler,
    FixedScheduler,
    Horizon,
    Observation,
    RandomScheduler,
    Scheduler,
    SignalScheduler,
    StaticScheduler,
)
from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from sol_core.budgets.mixes import Mix, MixTable

RECOVERY_STEPS = 8  # steps over which a deviation that two mixes cannot even out is made good
MOST_RECOVERY = 0.1  # of dense, at a step


class ShareScheduler:
    """Takes turns between two neighbouring mixes, so that the mean share is met."""

    def __init__(self, budget: Budget, grid: ActionGrid, mixes: MixTable) -> None:
        assert budget.bytes_share is not None
        grid.check_budget(budget)
        self._share, self._mixes = budget.bytes_share, mixes
        self._bits = StaticScheduler(Budget(bit_width=budget.bit_width), grid)
        self._previous: tuple[Mix, int] | None = None
        self._excess = 0.0  # bytes read beyond the share so far, in dense steps

    def next_action(self, observation: Observation) -> Action:
        context = observation.cached_tokens + 1
        if self._previous is None:
            self._mixes.check(self._share, context)
        else:
            self._excess += self._read(observation.tokens_read) - self._share
        recovery = min(max(self._excess / RECOVERY_STEPS, -MOST_RECOVERY), MOST_RECOVERY)
        low, high = self._mixes.neighbours(self._share - recovery, context)
        gaps = [abs(self._excess + mix.share - self._share) for mix in (low, high)]
        mix = high if gaps[1] <= gaps[0] else low
        self._previous = mix, context
        bits = self._bits.next_action(observation).bit_width
        return Action(mix.action.keep_fraction, mix.action.channel_keep_ratio, bits)

    def _read(self, tokens_read: float | None) -> float:
        """Share of the dense bytes that the previous step read."""
        assert self._previous is not None
        mix, context = self._previous
        if tokens_read is None:
            return mix.share
        return self._mixes.step_bytes.share(mix.action, context, tokens_read)


class MeanOfMixes:
    """Another schedule at the mean spend of the mixes that meet the share at its first step."""

    def __init__(
        self, config: ScheduleConfig, grid: ActionGrid, horizon: Horizon, mixes: MixTable
    ) -> None:
        self._config, self._grid, self._horizon, self._mixes = config, grid, horizon, mixes
        self._scheduler: Scheduler | None = None

    def next_action(self, observation: Observation) -> Action:
        if self._scheduler is None:
            budget, context = self._config.budget, observation.cached_tokens + 1
            assert budget.bytes_share is not None
            self._mixes.check(budget.bytes_share, context)
            mean = self._mixes.mean(budget.bytes_share, context, budget.bit_width)
            config = dataclasses.replace(self._config, budget=mean)
            self._scheduler = build_scheduler(config, self._grid, horizon=self._horizon)
        return self._scheduler.next_action(observation)


def build_scheduler(
    config: ScheduleConfig, grid: ActionGrid, *, horizon: Horizon, mixes: MixTable | None = None
) -> Scheduler:
    budget = config.budget
    if config.kind not in ("dense", "policy", "painted") and budget.bytes_share is not None:
        return _build_by_share(config, grid, horizon, mixes)
    match config.kind:
        case "dense":
            return DenseScheduler()
        case "static":
            return StaticScheduler(budget, grid)
        case "random":
            return RandomScheduler(budget, grid, seed=config.seed, horizon=horizon)
        case "emc":
            return SignalScheduler("entropy", budget, grid, horizon=horizon)
        case "dac":
            return SignalScheduler("drift", budget, grid, horizon=horizon)
        case "painted":
            return FixedScheduler(config.painted)
        case "policy":
            raise ConfigError("a policy schedules many rows at once; see policy/scheduler.py")


def _build_by_share(
    config: ScheduleConfig, grid: ActionGrid, horizon: Horizon, mixes: MixTable | None
) -> Scheduler:
    """``build_scheduler`` for a budget of bytes."""
    if mixes is None:
        raise ConfigError(f"{config.kind} takes a budget per axis here, got {config.budget.words}")
    if config.kind == "static":
        return ShareScheduler(config.budget, grid, mixes)
    return MeanOfMixes(config, grid, horizon, mixes)


def own_schedule(
    given: Schedule, budget: Budget | None, mixes: MixTable | None, *, copies: bool = True
) -> Schedule:
    """A caller's schedule for one sequence, as ``fresh_schedule`` makes it.

    At a share of the bytes its budget holds the levels of the best mix at its first step.
    """
    if mixes is None or budget is None or budget.bytes_share is None or not takes_budget(given):
        return fresh_schedule(given, budget, copies=copies)
    share, bits, made = budget.bytes_share, budget.bit_width, list[Schedule]()

    def schedule(observation: StepObservation) -> Action:
        if not made:
            levels = mixes.mean(share, observation.cached_tokens[0] + 1, bits)
            made.append(fresh_schedule(given, levels, copies=copies))
        return made[0](observation)

    return schedule
