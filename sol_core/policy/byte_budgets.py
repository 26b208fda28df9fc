"""Rows of a policy whose budgets are shares of the dense bytes: what they aim at, and keep to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sol_core.actions import DENSE, Action, Budget
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.policy.byte_prices import BYTE_AXES, BytePrices, Floats, history_features
from sol_core.policy.price_rule import NEVER

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
    Raises: ConfigError at the first step, for a share that no mix reaches at its context.
    """

    def __init__(self, policy: Policy, shares: Sequence[float], mixes: MixTable) -> None:
        assert policy.states is not None
        self._mixes, self._shares = mixes, list(shares)
        self._prices = BytePrices(policy.info.grid, mixes, policy.states)
        self._own_bytes = policy.num_bytes
        self._sharpness = policy.sharpness[: len(BYTE_AXES), None]
        self._excess = [0.0] * len(shares)  # bytes read beyond the share, in dense steps
        self._previous: list[Action] | None = None
        self._contexts: list[int] = []
        self._dense: list[float] = []  # bytes of a dense step there
        self._episode: tuple[Floats, Floats] | None = None  # contexts it began at; spends so far

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

    def price(
        self, place: int, logits: Tensor, shapes: Tensor, observation: StepObservation
    ) -> None:
        """Overwrite the logits of attention and MLP with those at the price of the shares.

        Args:
            place: of the step in its episode.
            logits: [R, axes, L] fp32.
            shapes: [R, axes, 2], sensitivity and slope that the network says.
        """
        self._account(observation)
        self._contexts = [cached + 1 for cached in observation.cached_tokens]
        costs = self._mixes.costs
        self._dense = [costs.decode_step(DENSE, context).bytes_read for context in self._contexts]
        aims = []
        for row, (share, excess) in enumerate(zip(self._shares, self._excess, strict=True)):
            own = self._own_bytes / self._dense[row]
            if self._previous is None:
                self._mixes.check(share - own, self._contexts[row])
            beyond = excess - min(max(excess, -SLACK), SLACK)
            aims.append(share - own - excess / RECOVERY_STEPS - beyond / SOONER_STEPS)
        if place == 0 or self._episode is None:
            began = np.asarray(observation.cached_tokens, np.float64)
            self._episode = began, np.zeros((len(aims), len(BYTE_AXES)))
        began, spends = self._episode
        history = history_features(place, spends / place if place else spends + 1, began)
        seen = shapes[:, : len(BYTE_AXES)].cpu().numpy().astype(np.float64)
        priced = self._prices.logits(seen, history, aims, self._contexts)
        scaled = np.maximum(priced * self._sharpness, -NEVER).astype(np.float32)
        logits[:, : len(BYTE_AXES), : scaled.shape[-1]] = torch.from_numpy(scaled).to(logits.device)

    def taken(self, actions: Sequence[Action]) -> None:
        """Note what the rows do in the step that was priced."""
        assert self._episode is not None
        self._previous = list(actions)
        self._episode[1][:] += [[getattr(a, field) for field in BYTE_AXES] for a in actions]

    def _account(self, observation: StepObservation) -> None:
        """Add what the step before read beyond the shares."""
        if self._previous is None:
            return
        read = observation.tokens_read or (None,) * len(self._shares)
        for row, action in enumerate(self._previous):
            cost = self._mixes.costs.decode_step(
                action, self._contexts[row], tokens_read=read[row], observed=True
            )
            share = (cost.bytes_read + self._own_bytes) / self._dense[row]
            self._excess[row] += share - self._shares[row]
