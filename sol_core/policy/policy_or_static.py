"""A policy where it pays, and the static mix of the same share elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sol_core.actions import Action, Budget
from sol_core.budgets.row_schedules import ShareSchedule
from sol_core.decoding.batch_scheduling import (
    BatchScheduler,
    PolicyReads,
    RowSchedules,
    StepObservation,
    join_schedulers,
)
from sol_core.models.signals import Observe
from sol_core.policy.policy import Policy
from sol_core.policy.prices import GainTable
from sol_core.policy.scheduler import Distribution, PolicyScheduler

if TYPE_CHECKING:
    from sol_core.budgets.mixes import MixTable


def schedule_by_policy(
    policy: Policy, budgets: Sequence[Budget], mixes: MixTable | None = None
) -> PolicyScheduler | PolicyOrStatic:
    """The scheduler of a policy's rows: itself everywhere, or where it pays."""
    by_share = all(budget.bytes_share is not None for budget in budgets)
    if policy.gains is None or mixes is None or not by_share:
        return PolicyScheduler(policy, budgets, mixes=mixes)
    return PolicyOrStatic(policy, policy.gains, budgets, mixes)


class PolicyOrStatic:
    """A policy's rows, decided at their first step: by the policy or by the static mix."""

    def __init__(
        self, policy: Policy, gains: GainTable, budgets: Sequence[Budget], mixes: MixTable
    ) -> None:
        for budget in budgets:
            policy.info.grid.check_budget(budget)
        self._policy, self._gains, self._budgets = policy, gains, list(budgets)
        self._mixes = mixes
        self._rows: list[int] = []  # those of the policy
        self.left_at: dict[int, float] = {}  # static's rows: the measured context that decided it
        self._by_policy: PolicyScheduler | None = None
        self._all: BatchScheduler | None = None

    @property
    def observes(self) -> Observe:
        return self._policy.observes

    def next_actions(self, observation: StepObservation) -> Sequence[Action]:
        if self._all is None:
            self._all = self._begin(observation.cached_tokens)
        return self._all.next_actions(observation)

    def reads(self) -> Sequence[PolicyReads]:
        assert self._all is not None
        return self._all.reads()

    def distributions(self) -> list[Distribution | None]:
        """Return ``PolicyScheduler``'s; None for a row whose network is not run."""
        made: list[Distribution | None] = [None] * len(self._budgets)
        if self._by_policy is not None:
            for row, axes in zip(self._rows, self._by_policy.distributions(), strict=True):
                made[row] = axes
        return made

    def _begin(self, cached_tokens: Sequence[int]) -> BatchScheduler:
        policy, mixes, parts = self._policy, self._mixes, list[tuple[list[int], BatchScheduler]]()
        for row, (budget, cached) in enumerate(zip(self._budgets, cached_tokens, strict=True)):
            assert budget.bytes_share is not None
            if self._gains.pays(cached, budget.bytes_share):
                self._rows.append(row)
            else:
                self.left_at[row] = self._gains.nearest(cached)
        if self._rows:
            budgets = [self._budgets[row] for row in self._rows]
            self._by_policy = PolicyScheduler(policy, budgets, mixes=mixes)
            parts.append((self._rows, self._by_policy))
        static = [
            ShareSchedule(self._budgets[row], policy.info.grid, mixes) for row in self.left_at
        ]
        parts.append(([*self.left_at], RowSchedules(static)))
        return join_schedulers(parts)
