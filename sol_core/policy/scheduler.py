"""Drives a policy through a decode loop: observe, aim, choose, account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernels.policy_step import ByteTerms, price_bytes
from sol_core.actions import Action, Budget
from sol_core.decoding.batch_scheduling import PolicyReads, StepObservation
from sol_core.errors import ConfigError
from sol_core.models.signals import Observe
from sol_core.policy.byte_prices import BYTE_AXES, BytePrices, history_features
from sol_core.policy.few_rows import FEEDBACK_STEPS, FewRowPolicy
from sol_core.policy.network import observation_row
from sol_core.policy.policy import Policy, StepInputs, budget_shares

if TYPE_CHECKING:
    from sol_core.budgets.mixes import MixTable

# Reads beyond the share are made good over so many steps: a price spends unevenly. Those that
# exceed a quarter of a dense step are made good sooner: where all steps like the same of two levels
# that lie far apart, as 0.5 and 1 of the attention, prices alone missed 90 % by 6 points.
RECOVERY_STEPS, SOONER_STEPS = 64, 4
SLACK = 0.25  # dense steps


class ByteBudgets:
    """Prices the levels of attention and MLP for R rows, and keeps their mean shares."""

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


class StepChoice(NamedTuple):
    """Inputs and choices of the policy at one step, R rows; kept for training and the page."""

    inputs: StepInputs  # of this step, T = 1
    choices: Tensor  # [R, num_heads] int64
    logits: Tensor  # [R, num_heads, levels]
    temperature: float  # of the draws

    @property
    def log_probabilities(self) -> Tensor:
        """[R, num_heads, levels]; computed on request, which greedy decoding never makes."""
        return (self.logits / self.temperature).log_softmax(-1)

    @property
    def log_probability(self) -> Tensor:
        """[R], of the choices."""
        return self.log_probabilities.gather(-1, self.choices[..., None]).sum((1, 2))


def mean_entropy(heads: Sequence[Tensor]) -> Tensor:
    """Mean entropy of some heads' distributions, nats: log probabilities [..., levels] → [...]."""
    total = torch.zeros_like(heads[0][..., 0])
    for head in heads:
        total = total - (head.exp() * head).sum(-1)
    return total / len(heads)


class PolicyScheduler:
    """A policy's actions for R rows, each with a budget of its own.

    Budgets of bytes need ``mixes``: a policy with states chooses attention and MLP at one price on
    bytes, another aims at the mean of the mixes that meet the share.
    """

    def __init__(
        self,
        policy: Policy,
        budgets: Sequence[Budget],
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        keep_steps: bool = False,
        mixes: MixTable | None = None,
    ) -> None:
        for budget in budgets:
            policy.info.grid.check_budget(budget)
            if budget.bytes_share is not None and mixes is None:
                raise ConfigError(f"a policy takes a budget per axis here, got {budget.words}")
        self._budgets, self._mixes = list(budgets), mixes
        self.policy = policy
        self.steps: list[StepChoice] = []
        self._generator, self._temperature, self._keep_steps = generator, temperature, keep_steps
        self._targets = budget_shares(budgets).to(policy.embedding.device)
        self._excess = torch.zeros_like(self._targets)
        self._previous = torch.ones_like(self._targets)
        self._no_budget = self._targets[:, None, :0]
        self._cache: Tensor | None = None
        self._bytes = ByteBudgets.make(policy, budgets, mixes)
        self._few_rows = FewRowPolicy.make(policy, len(budgets))
        self._no_terms, self._count = ByteTerms.none(), 0
        self._reads = [policy.reads] * len(budgets)

    @property
    def observes(self) -> Observe:
        return self.policy.observes

    def next_actions(self, observation: StepObservation) -> list[Action]:
        policy, episode = self.policy, self.policy.info.episode_steps
        place = self._count % episode
        if place == 0:
            self._cache = None
            self._previous = torch.ones_like(self._targets)
            if self._mixes is not None and self._bytes is None:
                self._aim_at_mixes(self._mixes, observation.cached_tokens)
        terms = self._no_terms
        if self._bytes is not None:
            terms = self._bytes.terms(place, observation)
        if self._few_rows is None:
            inputs = self._inputs(observation, place, episode)
            with torch.no_grad():
                logits = self._logits(inputs, terms)
        else:
            means = self._targets, self._excess, self._previous
            greedy = self._generator is None
            inputs, logits, choices = self._few_rows.step(observation, place, *means, terms, greedy)
        if self._few_rows is None or self._generator is not None:
            choices = self._choose(logits)
            self._account(choices)
        self._count += 1
        if not self._keep_steps:
            self.steps.clear()
        self.steps.append(StepChoice(inputs, choices, logits, self._temperature))
        actions = policy.actions(choices)
        if self._bytes is not None:
            self._bytes.taken(actions)
        return actions

    def reads(self) -> Sequence[PolicyReads]:
        return self._reads

    def _logits(self, inputs: StepInputs, terms: ByteTerms) -> Tensor:
        """Of one step: [R, num_heads, levels]."""
        policy = self.policy
        if self._bytes is None:
            logits, self._cache = policy.logits(inputs, self._cache)
            return logits[:, 0]
        shapes, self._cache = policy.shapes(inputs, self._cache)
        log_damages = policy.damage_network.log_damages(shapes)
        logits = policy.priced(log_damages, inputs.aims)[:, 0]
        num_axes, num_levels = terms.positions.shape
        seen = shapes[:, 0, :num_axes].double().cpu().numpy()
        logits[:, :num_axes, :num_levels] = torch.from_numpy(price_bytes(seen, terms))
        return logits

    def _aim_at_mixes(self, mixes: MixTable, contexts: Sequence[int]) -> None:
        """Budgets of bytes become the means per axis that meet them at these contexts."""
        means = []
        for budget, context in zip(self._budgets, contexts, strict=True):
            if budget.bytes_share is not None:
                own = self.policy.num_bytes / mixes.step_bytes.dense(context + 1)
                share = budget.bytes_share - own
                mixes.check(share, context + 1)
                budget = mixes.mean(share, context + 1, budget.bit_width)
            means.append(budget)
        targets = budget_shares(means).to(self._targets.device)
        low, high = self.policy.ends
        self._targets = targets.clamp(low, high)

    def inputs(self) -> StepInputs:
        """Return the inputs of the kept steps, as T steps of R episodes."""
        fields = zip(*(step.inputs for step in self.steps), strict=True)
        return StepInputs(*(torch.cat(parts, 1) for parts in fields))

    def mean_spends(self) -> Tensor:
        """Spent so far: [R, axes], shares of dense."""
        return self._targets + self._excess / max(self._count, 1)

    def entropies(self) -> Tensor:
        """Of the kept steps' distributions, mean of rows and heads: [T], nats, on the CPU."""
        logits = torch.stack([step.logits.cpu() / step.temperature for step in self.steps])
        heads = [head.log_softmax(-1) for head in self.policy.per_head(logits)]
        return mean_entropy(heads).mean(-1)

    def distribution(self) -> list[list[list[float]]]:
        """Probability of every level at the last step: [R][axes][levels]."""
        probabilities = self.policy.per_head(self.steps[-1].log_probabilities.exp())
        if self.policy.num_heads == 1:
            shape = [len(values) for values in self.policy.levels]
            joint = probabilities[0].unflatten(-1, shape)
            axes = range(1, joint.ndim)
            probabilities = [
                joint.sum([other_axis for other_axis in axes if other_axis != axis])
                for axis in axes
            ]
        per_axis = [axis.tolist() for axis in probabilities]
        return [list(row) for row in zip(*per_axis, strict=True)]

    def _inputs(self, observation: StepObservation, place: int, episode: int) -> StepInputs:
        policy = self.policy
        row = observation_row(observation, self._previous, policy.info.layout)
        aims = (self._targets - self._excess / FEEDBACK_STEPS).clamp(*policy.ends)
        budget = self._no_budget
        if policy.num_heads == 1:
            targets, count = self._targets, max(self._count, 1)
            flags = targets.new_tensor([[(place + 1) / episode, 1.0]]).expand(targets.shape[0], 2)
            budget = torch.cat((flags, targets, self._excess / count), 1).unsqueeze(1)
        tokens = observation.tokens.unsqueeze(1)
        return StepInputs(row.unsqueeze(1), tokens, budget, aims.unsqueeze(1))

    def _account(self, choices: Tensor) -> None:
        self._previous = self.policy.spends(self.policy.axis_levels(choices))
        self._excess += self._previous - self._targets

    def _choose(self, logits: Tensor) -> Tensor:
        """Logits [R, num_heads, levels] → choices [R, num_heads]."""
        if self._generator is None:
            return logits.argmax(-1)
        probabilities = (logits / self._temperature).softmax(-1).to(self._generator.device)
        heads = self.policy.per_head(probabilities)
        picks = [torch.multinomial(head, 1, generator=self._generator) for head in heads]
        return torch.cat(picks, 1).to(logits.device)
