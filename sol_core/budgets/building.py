"""Builds the scheduler of one row from its configuration."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sol_core.actions import ActionGrid
from sol_core.budgets.share_schedules import MeanOfMixes, ShareScheduler
from sol_core.config import ScheduleConfig
from sol_core.decoding.schedules import (
    DenseScheduler,
    Horizon,
    RandomScheduler,
    Scheduler,
    SignalScheduler,
    StaticScheduler,
)
from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from sol_core.budgets.mixes import MixTable


def build_scheduler(
    config: ScheduleConfig, grid: ActionGrid, *, horizon: Horizon, mixes: MixTable | None = None
) -> Scheduler:
    """The scheduler that a configuration asks for.

    Args:
        mixes: of the model under the grid, for a budget of bytes.
    Raises: ConfigError for a budget of bytes without them.
    """
    budget = config.budget
    if config.kind not in ("dense", "policy") and budget.bytes_share is not None:
        if mixes is None:
            raise ConfigError(f"{config.kind} takes a budget per axis here, got {budget.words}")
        if config.kind == "static":
            return ShareScheduler(budget, grid, mixes)
        return MeanOfMixes(
            budget,
            mixes,
            lambda mean: build_scheduler(
                dataclasses.replace(config, budget=mean), grid, horizon=horizon
            ),
        )
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
        case "policy":
            raise ConfigError("a policy schedules many rows at once; see policy/scheduler.py")
