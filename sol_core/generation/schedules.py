"""Loads the schedules of one generation: the main row's and the side rows'."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args

from sol_core.actions import AXIS_FIELDS, ActionGrid, Budget, Mechanisms
from sol_core.budgets.mixes import mix_table
from sol_core.budgets.row_schedules import build_schedule, schedule_for_sequence
from sol_core.config import GenerationConfig, ScheduleConfig, ScheduleKind, WithGrid
from sol_core.decoding.batch_scheduling import (
    BatchScheduler,
    RowSchedules,
    Schedule,
    is_schedule,
    join_schedulers,
    takes_budget,
)
from sol_core.decoding.cost import CostModel
from sol_core.decoding.schedules import Horizon
from sol_core.errors import ConfigError
from sol_core.fields import check_kind
from sol_core.models.loading import LanguageModel
from sol_core.models.signals import Observe
from sol_core.policy.files.locate import resolved_grid
from sol_core.policy.policy import Policy, load_policy
from sol_core.policy.scheduler import PolicyRows, schedule_by_policy

# Looks up a name: a policy's folder, a policy, a schedule function or a class of such functions.
PolicyFinder = Callable[[str], "Path | Policy | Schedule | WithoutBudget"]
KINDS = tuple(kind for kind in get_args(ScheduleKind) if kind not in ("policy", "painted"))
ConfigT = TypeVar("ConfigT", bound=WithGrid)  # a generation's or an inspection's


class WithoutBudget(NamedTuple):
    """A function or class without a budget from the caller; its own default applies."""

    schedule: Schedule


class GenerationSchedules:
    """Loads what the rows' schedules need, and builds their scheduler and cost model.

    Args:
        copies: give each sequence a shallow copy of the caller's function, with its own state.
        on_host: policies choose on the CPU, as in ``DecodeOptions``.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: GenerationConfig,
        policies: PolicyFinder,
        *,
        copies: bool = False,
        on_host: bool = False,
    ) -> None:
        self._config, self._copies = config, copies
        self._rows = [config.schedule, *(row.schedule for row in config.side_rows)]
        names, grid = {row.policy for row in self._rows if row.policy}, config.grid_in_use
        self._policies: dict[str, Policy | Schedule | WithoutBudget] = {
            name: _checked_policy(policies(name), model, grid, on_host=on_host) for name in names
        }
        self.policy_rows: dict[int, PolicyRows] = {}  # by the row of a sequence, 0 the main one
        by_share = any(row.budget.bytes_share is not None for row in self._rows)
        self._mixes = mix_table(model, grid) if by_share else None
        self.costs = CostModel.of(model.lm, grid) if self._mixes is None else self._mixes.costs

    @property
    def observed(self) -> Mechanisms | None:
        """Return the mechanisms if a policy or function observes the prefill, else None."""
        policies = self._policies.values()
        is_read = any(not isinstance(policy, Policy) or policy.observes for policy in policies)
        return self._config.grid_in_use.mechanisms if is_read else None

    def build(self, total_steps: int, contexts: Sequence[int]) -> BatchScheduler:
        """Return a new scheduler for the rows of some sequences, each sequence's main row first.

        ``policy_rows`` refers to the last scheduler. A caller's function is called for one row at a
        time.

        Args:
            contexts: tokens before each sequence's first step.
        """
        horizon = Horizon(self._config.episode_steps, total_steps)
        parts: list[tuple[list[int], BatchScheduler]] = []
        for number, row in enumerate(self._rows):
            batch_rows = [number + len(self._rows) * at for at in range(len(contexts))]
            policy = self._policies[row.policy] if row.policy else None
            if isinstance(policy, Policy):
                budgets = [row.budget] * len(contexts)
                made = schedule_by_policy(policy, budgets, self._mixes, contexts)
                self.policy_rows[number] = made
                parts.append((batch_rows, made.scheduler))
            elif policy is not None:
                asked = None if isinstance(policy, WithoutBudget) else row.budget
                given = policy.schedule if isinstance(policy, WithoutBudget) else policy
                for batch_row in batch_rows:
                    own = schedule_for_sequence(given, asked, self._mixes, copies=self._copies)
                    parts.append(([batch_row], RowSchedules([own], Observe.CONCENTRATION)))
            else:
                grid, mixes = self._config.grid_in_use, self._mixes
                single = [
                    build_schedule(row, grid, horizon=horizon, mixes=mixes) for _ in batch_rows
                ]
                parts.append((batch_rows, RowSchedules(single)))
        return join_schedulers(parts)


def _checked_policy(
    source: Path | Policy | Schedule | WithoutBudget,
    model: LanguageModel,
    grid: ActionGrid,
    *,
    on_host: bool,
) -> Policy | Schedule | WithoutBudget:
    """Load a policy given as a folder. Raises: PolicyError if made for another model or grid."""
    if isinstance(source, Path):
        source = load_policy(source, model, grid=grid)
    elif isinstance(source, Policy):
        source.check_model(model.fingerprint)
        source.info.check_grid(grid)
    if on_host and isinstance(source, Policy):
        return source.on_host(model.lm.host_embedding)
    return source


def with_grid(config: ConfigT, find: PolicyFinder) -> ConfigT:
    """Return the configuration with its own grid, else its first policy's, else the default."""
    given: Any = config  # a dataclass with ``schedules``
    methods = (find(schedule.policy) for schedule in given.schedules if schedule.policy)
    grid = resolved_grid(config.grid, methods)
    return cast(ConfigT, dataclasses.replace(given, grid=grid))


def with_schedule(
    config: GenerationConfig | None, policy: Policy | Schedule | None, budget: Budget | None
) -> GenerationConfig:
    """Return the configuration with the schedule that policy and budget request."""
    chosen = GenerationConfig() if config is None else config
    check_kind("config", chosen, GenerationConfig, "a GenerationConfig")
    if policy is None and budget is None:
        return chosen
    if chosen.schedule.kind != "dense":
        raise ConfigError(
            f"the configuration has the schedule {chosen.schedule.name}: leave it out, or the "
            "policy and the budget"
        )
    schedule = schedule_config("static" if policy is None else policy, budget)
    return dataclasses.replace(chosen, schedule=schedule)


def schedule_config(
    given: Policy | Schedule | str, budget: Budget | None, name: str = ""
) -> ScheduleConfig:
    """Make the schedule of a policy, a function, a class of functions, or a kind.

    Args:
        name: name of a given policy or function; "" means its own.
    Raises: ConfigError for anything else, a missing budget, or a budget that is not taken.
    """
    wanted = f"a Budget({', '.join(AXIS_FIELDS)})"
    check_kind("budget", Budget() if budget is None else budget, Budget, wanted)
    if isinstance(given, Policy):
        if budget is None:
            raise ConfigError(f"a policy needs a budget: give {wanted.removeprefix('a ')}")
        return ScheduleConfig("policy", budget, policy=name or schedule_name(given))
    if isinstance(given, str) and given in KINDS:
        if budget is None and given != "dense":
            raise ConfigError(f"{given} needs a budget: give {wanted.removeprefix('a ')}")
        return ScheduleConfig(cast(ScheduleKind, given), budget or Budget())
    check_is_policy(given)
    if budget is not None and not takes_budget(cast(Schedule, given)):
        raise ConfigError(
            "a schedule of your own without a parameter budget decides alone: leave the budget out"
        )
    chosen = name or schedule_name(cast(Schedule, given))
    return ScheduleConfig("policy", budget or Budget(), policy=chosen)


def schedule_configs(
    methods: Mapping[str, Policy | Schedule | str], budget: Budget | None
) -> tuple[tuple[ScheduleConfig, ...], PolicyFinder]:
    """Return the schedules of several methods, and a finder of the given policies by name."""

    def schedule(name: str, given: Policy | Schedule | str) -> ScheduleConfig:
        decides = not isinstance(given, (Policy, str)) and not takes_budget(given)
        return schedule_config(given, None if decides else budget, name)

    def find(name: str) -> Policy | Schedule | WithoutBudget:
        return mark_without_budget(cast("Policy | Schedule", methods[name]), budget)

    return tuple(schedule(*method) for method in methods.items()), find


def mark_without_budget(
    policy: Policy | Schedule, budget: Budget | None
) -> Policy | Schedule | WithoutBudget:
    """Return a caller's policy, function or class as a ``PolicyFinder`` does."""
    return policy if isinstance(policy, Policy) or budget is not None else WithoutBudget(policy)


def schedule_name(policy: Policy | Schedule) -> str:
    """Return the name by which a configuration refers to a given policy or function."""
    if isinstance(policy, Policy):
        return policy.info.name or "policy"
    return str(getattr(policy, "__name__", type(policy).__name__))


def check_is_policy(policy: object) -> None:
    """Raise ConfigError unless it is a policy or a caller's schedule."""
    if isinstance(policy, Policy) or not is_schedule(policy):
        wanted = "a Policy, as load_policy(name, model) returns it, or a function of an observation"
        check_kind("policy", policy, Policy, f"{wanted}, or a class of them")
