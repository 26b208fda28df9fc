"""Loads the policies and own schedules of an evaluation and checks that they fit together."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sol_core.actions import ActionGrid, Budget
from sol_core.budgets.mixes import mix_table
from sol_core.budgets.row_schedules import schedule_for_sequence
from sol_core.config import GenerationConfig
from sol_core.decoding.batch_scheduling import (
    BatchScheduler,
    RowSchedules,
    Schedule,
    SplitScheduler,
    is_schedule,
)
from sol_core.errors import ConfigError
from sol_core.fields import kind_of
from sol_core.models.loading import LanguageModel
from sol_core.models.signals import Observe
from sol_core.policy.files.folder import weights_sha256
from sol_core.policy.files.locate import resolved_grid
from sol_core.policy.policy import Policy, load_policy
from sol_core.policy.scheduler import schedule_by_policy

EPISODE_STEPS = GenerationConfig().episode_steps  # for schedules without their own
# Makes a scheduler with a row per budget, given the tokens before each row's first step.
MakeScheduler = Callable[[Sequence[Budget], Sequence[int]], BatchScheduler]


@dataclass(frozen=True, slots=True)
class Contender:
    """A compared policy or schedule."""

    name: str
    make_scheduler: MakeScheduler
    grid: ActionGrid  # the action grid it was trained for
    episode_steps: int  # steps after which it restarts
    trained_on: str  # fingerprint of its training corpus; "" when unknown
    fingerprint: str = ""  # hash of its weights or source
    weights_sha256: str = ""  # a policy's, as in its folder's config.json
    source_sha256: str | None = None  # a schedule's; None if its source is not available


def load_contenders(
    model: LanguageModel,
    policies: Mapping[str, Path | Policy | Schedule],
    budgets: Sequence[Budget],  # to be requested
    grid: ActionGrid | None,  # for functions; None is ``resolved_grid``'s
) -> list[Contender]:
    """Load the contenders in the given order. Raises: ConfigError, PolicyError."""
    by_share = budgets[0].bytes_share is not None
    contenders = [
        _trained(name, given, model, by_share)
        if isinstance(given, (Path, Policy))
        else _own(name, given, resolved_grid(grid, policies.values()), model, by_share)
        for name, given in policies.items()
    ]
    if not contenders:
        raise ConfigError("no policy to evaluate; give at least one")
    first = contenders[0]
    for other in contenders[1:]:
        if other.grid != first.grid:
            raise ConfigError(
                f"policies {first.name} and {other.name} have different action grids "
                "(levels, page size or quantisation site); evaluate them separately"
            )
    for budget in budgets:
        first.grid.check_budget(budget)
    return contenders


def _own(
    name: str, given: Any, grid: ActionGrid, model: LanguageModel, by_share: bool
) -> Contender:
    """Make a contender of a function or a class of functions; each row has its own instance."""
    if not is_schedule(given):
        kind = kind_of(given) if not isinstance(given, type) else given.__name__
        raise ConfigError(
            f"{name} must be a Policy, a policy's folder, a function of an observation or a class "
            f"of them, got {kind}"
        )
    mixes = mix_table(model, grid) if by_share else None

    def scheduler(budgets: Sequence[Budget], contexts: Sequence[int]) -> BatchScheduler:
        rows = [schedule_for_sequence(given, budget, mixes) for budget in budgets]
        return RowSchedules(rows, Observe.CONCENTRATION)

    has_source = isinstance(given, type) or inspect.isroutine(given)
    made_of: Any = given if has_source else type(given)
    try:
        source = hashlib.sha256(inspect.getsource(made_of).encode()).hexdigest()
    except (OSError, TypeError):
        source = None
    fingerprint = source or hashlib.sha256(made_of.__qualname__.encode()).hexdigest()
    return Contender(name, scheduler, grid, EPISODE_STEPS, "", fingerprint, source_sha256=source)


def _trained(name: str, given: Path | Policy, model: LanguageModel, by_share: bool) -> Contender:
    policy = load_policy(given, model) if isinstance(given, Path) else given
    policy.check_model(model.fingerprint)
    info = policy.info
    mixes = mix_table(model, info.grid) if by_share else None

    def scheduler(budgets: Sequence[Budget], contexts: Sequence[int]) -> BatchScheduler:
        if policy.embedding.device.type != "cpu":
            return schedule_by_policy(policy, budgets, mixes, contexts).scheduler
        # One scheduler per row, so a row's choice does not depend on the others.
        pairs = enumerate(zip(budgets, contexts, strict=True))
        return SplitScheduler(
            [
                ([row], schedule_by_policy(policy, [budget], mixes, [context]).scheduler)
                for row, (budget, context) in pairs
            ]
        )

    checksum = weights_sha256(policy.parts)
    steps, trained_on = info.episode_steps, info.corpus_fingerprint
    return Contender(name, scheduler, info.grid, steps, trained_on, checksum, checksum)
