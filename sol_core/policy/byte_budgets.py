"""Rows of a policy whose budgets are shares of the dense bytes: what they aim at, and keep to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kernels.policy_step import ByteTerms
from sol_core.actions import Action, Budget
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.policy.byte_prices import BYTE_AXES, BytePrices, history_features

if TYPE_CHECKING:
    from sol_core.budgets.mixes import MixTable
    from sol_core.policy.policy import Policy

# What was read beyond the share is made good over so many steps: a price spends unevenly. What
# exceeds a quarter of a dense step is made good sooner: where all steps like the same of two levels
# that lie far apart, as 0.5 and 1 of the attention, prices alone missed 90 % by 6 points.
RECOVERY_STEPS, SOONER_STEPS = 64, 4
SLACK = 0.25  # dense steps


class ByteBudgets:
    """Prices the levels of attention and MLP for R rows, and keeps their mean shares.

    Args:
        shares: asked of each row, the policy's own bytes included.
    """

    def __init__(self, policy: Policy, shares: Sequence[float], mixes: MixTable) -> None:
        assert policy.states is not None
        self._mixes, self._shares = mixes, list(shares)
        sharpness = policy.sharpness[: len(BYTE_AXES)]
        self._prices = BytePrices(policy.info.grid, mixes, policy.states, sharpness)
        self._own = policy.reads
        self._excess = [0.0] * len(shares)  # bytes read beyond the share, in dense steps
        self._previous: list[Action] | None = None
        self._contexts: list[int] = []
        self._dense: list[float] = []  # bytes of a dense step there
        self._began = np.empty(0)  # contexts of the episode's first step
        self._spent = np.empty(0)  # [R, axes], by the episode so far

    @staticmethod
    def make(
        policy: Policy, budgets: Sequence[Budget], mixes: MixTable | None
    ) -> ByteBudgets | None:
        """For budgets that are all shares, where the policy has what it takes; else None."""
        shares = [b.bytes_share for b in budgets if b.bytes_share is not None]
        if mixes is None or policy.states is None or len(shares) < len(budgets):
            return None
        if not BytePrices.fits(policy.info.grid, mixes):
            return None
        return ByteBudgets(policy, shares, mixes)

    def terms(self, place: int, observation: StepObservation) -> ByteTerms:
        """Terms of the choice of attention and MLP at this step."""
        self._account(observation)
        self._contexts = [cached + 1 for cached in observation.cached_tokens]
        self._dense = [self._mixes.step_bytes.dense(context) for context in self._contexts]
        aims = []
        for row, (share, excess) in enumerate(zip(self._shares, self._excess, strict=True)):
            own = self._own.num_bytes / self._dense[row]
            if self._previous is None:
                self._mixes.check(share - own, self._contexts[row])
            beyond = excess - min(max(excess, -SLACK), SLACK)
            aims.append(share - own - excess / RECOVERY_STEPS - beyond / SOONER_STEPS)
        if place == 0:
            self._began = np.asarray(observation.cached_tokens, np.float64)
            self._spent = np.zeros((len(aims), len(BYTE_AXES)))
        means = self._spent / place if place else self._spent + 1
        features = history_features(place, means, self._began)
        return self._prices.terms(features, aims, self._contexts)

    def taken(self, actions: Sequence[Action]) -> None:
        """Note what the rows do in the step that was priced."""
        self._previous = list(actions)
        self._spent += [(a.keep_fraction, a.channel_keep_ratio) for a in actions]

    def _account(self, observation: StepObservation) -> None:
        """Add what the step before read beyond the shares."""
        if self._previous is None:
            return
        read = observation.tokens_read or (None,) * len(self._shares)
        for row, action in enumerate(self._previous):
            num_bytes = self._own.num_bytes + self._mixes.step_bytes.of(
                action, self._contexts[row], read[row], observed=self._own.scores_pages
            )
            self._excess[row] += num_bytes / self._dense[row] - self._shares[row]
