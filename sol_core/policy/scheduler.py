"""Schedules rows by a policy: observe, aim, choose, account; or by static where it does not pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernels.policy_step import ByteTerms, price_bytes
from sol_core.actions import Action, Budget
from sol_core.budgets.row_schedules import Feedback, ShareSchedule
from sol_core.decoding.batch_scheduling import (
    BatchScheduler,
    RowSchedules,
    StepObservation,
    StepReads,
    join_schedulers,
)
from sol_core.errors import ConfigError
from sol_core.models.signals import Observe
from sol_core.policy.byte_prices import BYTE_AXES, BytePrices, history_features
from sol_core.policy.policy import Policy, StepInputs, budget_fractions
from sol_core.policy.step import FewRowPolicy, input_rows

if TYPE_CHECKING:
    from sol_core.budgets.mixes import MixTable

Distribution = tuple[tuple[float, ...], ...]  # probability of every level, per axis
# Steps over which an axis's overspending is compensated. With 16, an episode, the gain halved,
# because prices gain by spending unevenly (docs/results.md).
FEEDBACK_STEPS = 32
# Steps over which excess bytes are compensated: slowly, because prices spend unevenly; the part
# beyond a quarter of a dense step, sooner. If all steps prefer the same of two distant levels (0.5
# and 1 of the attention), prices alone missed 90 % by 6 points.
RECOVERY_STEPS, SOONER_STEPS = 64, 4
SLACK = 0.25  # dense steps


class ByteBudgets:
    """Prices the levels of attention and MLP for R rows, and maintains their mean shares."""

    def __init__(self, policy: Policy, shares: Sequence[float], mixes: MixTable) -> None:
        assert policy.states is not None
        self._mixes = mixes
        self._feedback = Feedback(
            np.asarray(shares), RECOVERY_STEPS, slack=SLACK, sooner_steps=SOONER_STEPS
        )
        sharpness = policy.sharpness[: len(BYTE_AXES)]
        self._prices = BytePrices(policy.info.grid, mixes, policy.states, sharpness)
        self._own = policy.reads
        self._contexts: list[int] = []
        self._dense = np.empty(0)  # bytes of a dense step at the contexts
        self._began = np.empty(0)  # contexts at the episode's first step
        self._spent = np.empty(0)  # [R, axes], sum over the episode so far

    @staticmethod
    def make(
        policy: Policy, budgets: Sequence[Budget], mixes: MixTable | None
    ) -> ByteBudgets | None:
        """Make it if all budgets are shares and the policy supports them, else return None."""
        shares = [b.bytes_share for b in budgets if b.bytes_share is not None]
        if mixes is None or policy.states is None or len(shares) < len(budgets):
            return None
        if not BytePrices.fits(policy.info.grid, mixes):
            return None
        return ByteBudgets(policy, shares, mixes)

    def terms(
        self, step: int, observation: StepObservation, previous: Sequence[Action]
    ) -> ByteTerms:
        """Return the terms of choosing attention and MLP at this step of the episode.

        Args:
            previous: actions of the previous step, whose bytes are known now; empty at the first.
        """
        costs = self._mixes.costs
        if previous:
            reads = observation.reads or (self._own,) * len(previous)
            rows = zip(previous, self._contexts, reads, strict=True)
            num_bytes = [costs.decode_step(*row).bytes_read for row in rows]
            self._feedback.add(np.array(num_bytes) / self._dense)
            self._spent += [(a.keep_fraction, a.channel_keep_ratio) for a in previous]
        self._contexts = [cached + 1 for cached in observation.cached_tokens]
        self._dense = np.array([costs.dense_step(at).bytes_read for at in self._contexts])
        own = self._own.policy.policy_bytes / self._dense
        if not previous:
            for share, context in zip(self._feedback.targets - own, self._contexts, strict=True):
                self._mixes.check(share, context)
        aims = self._feedback.next_targets() - own
        if step == 0:
            self._began = np.asarray(observation.cached_tokens, np.float64)
            self._spent = np.zeros((len(aims), len(BYTE_AXES)))
        means = self._spent / step if step else self._spent + 1
        features = history_features(step, means, self._began)
        return self._prices.terms(features, aims, self._contexts)


class StepChoice(NamedTuple):
    """A policy's inputs and choices at one step, R rows, for training and the page."""

    inputs: StepInputs  # T = 1
    choices: Tensor  # [R, num_heads] int64
    logits: Tensor  # [R, num_heads, levels]
    temperature: float  # of sampling

    @property
    def log_probabilities(self) -> Tensor:
        """Return log probabilities [R, num_heads, levels], computed on demand."""
        return (self.logits / self.temperature).log_softmax(-1)

    @property
    def log_probability(self) -> Tensor:
        """Return the log probability of the choices: [R]."""
        return self.log_probabilities.gather(-1, self.choices[..., None]).sum((1, 2))


def mean_entropy(heads: Sequence[Tensor]) -> Tensor:
    """Return the heads' mean entropy, nats, from log probabilities [..., levels]: [...]."""
    total = torch.zeros_like(heads[0][..., 0])
    for head in heads:
        total = total - (head.exp() * head).sum(-1)
    return total / len(heads)


class PolicyScheduler:
    """Schedules R rows by a policy, each with its own budget.

    Shares of the bytes need ``mixes``: a policy with states chooses attention and MLP at one price
    on bytes; others aim at the mean of the mixes that meet the share.
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
        targets = budget_fractions(budgets).to(policy.embedding.device)
        self._feedback = Feedback(targets, FEEDBACK_STEPS)
        self._previous, self._actions = torch.ones_like(targets), list[Action]()  # last step's
        self._no_budget = targets[:, None, :0]
        self._cache: Tensor | None = None
        self._bytes = ByteBudgets.make(policy, budgets, mixes)
        self._few_rows = FewRowPolicy.make(policy, len(budgets))
        self._no_terms, self._count = ByteTerms.none(), 0
        self._reads = [policy.reads] * len(budgets)

    @property
    def observes(self) -> Observe:
        return self.policy.observes

    def next_actions(self, observation: StepObservation) -> list[Action]:
        policy = self.policy
        step = self._count % policy.info.episode_steps
        if step == 0:
            self._cache = None
            self._previous = torch.ones_like(self._previous)
            if self._mixes is not None and self._bytes is None:
                self._aim_at_mixes(self._mixes, observation.cached_tokens)
        terms = self._no_terms
        if self._bytes is not None:
            terms = self._bytes.terms(step, observation, self._actions)
        aims = self._feedback.next_targets().clamp(*policy.ends)
        if self._few_rows is None:
            inputs = self._inputs(observation, step, aims)
            with torch.no_grad():
                logits = self._logits(inputs, terms)
            choices = logits.argmax(-1)
        else:
            inputs, logits, choices = self._few_rows.step(
                observation, step, aims, self._previous, terms
            )
        if self._generator is not None:
            choices = self._draw(logits, self._generator)
        levels = policy.axis_levels(choices)
        self._previous, self._actions = policy.spends(levels), policy.actions(levels)
        self._feedback.add(self._previous)
        self._count += 1
        if not self._keep_steps:
            self.steps.clear()
        self.steps.append(StepChoice(inputs, choices, logits, self._temperature))
        return self._actions

    def reads(self) -> Sequence[StepReads]:
        return self._reads

    def _logits(self, inputs: StepInputs, terms: ByteTerms) -> Tensor:
        """Return the logits of one step: [R, num_heads, levels]."""
        policy = self.policy
        if self._bytes is None:
            logits, self._cache = policy.logits(inputs, self._cache)
            return logits[:, 0]
        shapes, self._cache = policy.shapes(inputs, self._cache)
        log_damages = policy.damage_network.log_damages(shapes)
        logits = policy.logits_at_prices(log_damages, inputs.aims)[:, 0]
        num_axes, num_levels = terms.positions.shape
        seen = shapes[:, 0, :num_axes].double().cpu().numpy()
        logits[:, :num_axes, :num_levels] = torch.from_numpy(price_bytes(seen, terms))
        return logits

    def _aim_at_mixes(self, mixes: MixTable, contexts: Sequence[int]) -> None:
        """Convert shares of the bytes to means per axis at these contexts."""
        means = []
        for budget, context in zip(self._budgets, contexts, strict=True):
            if budget.bytes_share is not None:
                own = self.policy.num_bytes / mixes.costs.dense_step(context + 1).bytes_read
                share = budget.bytes_share - own
                mixes.check(share, context + 1)
                budget = mixes.mean(share, context + 1, budget.bit_width)
            means.append(budget)
        targets = budget_fractions(means).to(self._previous.device)
        self._feedback.targets = targets.clamp(*self.policy.ends)

    def inputs(self) -> StepInputs:
        """Return the inputs of the kept T steps of R episodes."""
        fields = zip(*(step.inputs for step in self.steps), strict=True)
        return StepInputs(*(torch.cat(parts, 1) for parts in fields))

    def entropies(self) -> Tensor:
        """Return the kept steps' mean entropies over rows and heads: [T], nats, on the CPU."""
        logits = torch.stack([step.logits.cpu() / step.temperature for step in self.steps])
        heads = [head.log_softmax(-1) for head in self.policy.split_by_head(logits)]
        return mean_entropy(heads).mean(-1)

    def distributions(self) -> list[Distribution]:
        """Return each row's level probabilities at the last step."""
        probabilities = self.policy.split_by_head(self.steps[-1].log_probabilities.exp())
        if self.policy.num_heads == 1:
            shape = [len(values) for values in self.policy.levels]
            joint = probabilities[0].unflatten(-1, shape)
            axes = range(1, joint.ndim)
            probabilities = [
                joint.sum([other_axis for other_axis in axes if other_axis != axis])
                for axis in axes
            ]
        by_axis = (axis.tolist() for axis in probabilities)
        return [tuple(map(tuple, row)) for row in zip(*by_axis, strict=True)]

    def _inputs(self, observation: StepObservation, step: int, aims: Tensor) -> StepInputs:
        policy = self.policy
        row = input_rows(observation, self._previous, policy.info.layout)
        budget = self._no_budget
        if policy.num_heads == 1:
            targets, over = self._feedback.targets, self._feedback.excess / max(self._count, 1)
            part = (step + 1) / policy.info.episode_steps
            flags = targets.new_tensor([[part, 1.0]]).expand(targets.shape[0], 2)
            budget = torch.cat((flags, targets, over), 1).unsqueeze(1)
        tokens = observation.tokens.unsqueeze(1)
        return StepInputs(row.unsqueeze(1), tokens, budget, aims.unsqueeze(1))

    def _draw(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """Sample choices [R, num_heads] from logits [R, num_heads, levels]."""
        probabilities = (logits / self._temperature).softmax(-1).to(generator.device)
        heads = self.policy.split_by_head(probabilities)
        picks = [torch.multinomial(head, 1, generator=generator) for head in heads]
        return torch.cat(picks, 1).to(logits.device)


class PolicyRows(NamedTuple):
    """The scheduler of rows with a policy, some of which it may leave to static."""

    scheduler: BatchScheduler  # schedules all rows
    by_policy: PolicyScheduler | None  # schedules the policy's rows, if any
    own: Sequence[int]  # the policy's rows
    left_at: Mapping[int, float]  # static's rows, with the measured context that decided it

    def distributions(self) -> list[Distribution | None]:
        """Return level probabilities by row; None for static's rows."""
        made: list[Distribution | None] = [None] * (len(self.own) + len(self.left_at))
        if self.by_policy is not None:
            for row, axes in zip(self.own, self.by_policy.distributions(), strict=True):
                made[row] = axes
        return made


def schedule_by_policy(
    policy: Policy, budgets: Sequence[Budget], mixes: MixTable | None, contexts: Sequence[int]
) -> PolicyRows:
    """Schedule rows by a policy, or by the static mix where the policy does not pay.

    Args:
        contexts: tokens before each row's first step.
    """
    left_at, static = dict[int, float](), list[ShareSchedule]()
    if policy.gains is not None and mixes is not None:
        for row, (budget, context) in enumerate(zip(budgets, contexts, strict=True)):
            share = budget.bytes_share
            if share is not None and not policy.gains.pays(context, share):
                left_at[row] = policy.gains.nearest(context)
                static.append(ShareSchedule(budget, policy.info.grid, mixes))
    own = [row for row in range(len(budgets)) if row not in left_at]
    parts: list[tuple[Sequence[int], BatchScheduler]] = [([*left_at], RowSchedules(static))]
    by_policy = None
    if own:
        by_policy = PolicyScheduler(policy, [budgets[row] for row in own], mixes=mixes)
        parts.append((own, by_policy))
    return PolicyRows(join_schedulers(parts), by_policy, own, left_at)
