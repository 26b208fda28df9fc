"""Drives a policy through a decode loop: observe, aim, choose, account."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sol_core.actions import Action, Budget
from sol_core.batch_scheduling import StepObservation
from sol_core.policy.inputs import observation_row
from sol_core.policy.network import BlockCache
from sol_core.policy.policy import Policy, StepInputs, budget_shares
from sol_core.policy.prices import aim_for

__all__ = ["FEEDBACK_STEPS", "PolicyScheduler", "StepChoice"]

# Overspending is made good over this many steps. Sixteen, an episode, halved the gain: the
# point of a price is to spend unevenly (docs/results.md).
FEEDBACK_STEPS = 64


class StepChoice:
    """What the policy saw and chose at one step, R rows; kept for training and the page.

    Attributes:
        inputs: of this step, T = 1.
        choices: [R, num_heads] int64.
        log_probability: [R] of the choices, at the sampling temperature.
        probabilities: per head [R, levels].
    """

    __slots__ = ("choices", "inputs", "log_probability", "probabilities")

    def __init__(
        self,
        inputs: StepInputs,
        choices: Tensor,
        log_probability: Tensor,
        probabilities: list[Tensor],
    ) -> None:
        self.inputs, self.choices = inputs, choices
        self.log_probability, self.probabilities = log_probability, probabilities


class PolicyScheduler:
    """A policy's actions for R rows, each with a budget of its own.

    Args:
        budgets: R requested means.
        generator: draws actions; None takes the most probable ones (greedy).
        temperature: of the draws.
        keep_steps: keep every StepChoice in ``steps`` instead of the last one only.
    Raises: ConfigError for a budget outside the grid.
    """

    observes = True

    def __init__(
        self,
        policy: Policy,
        budgets: Sequence[Budget],
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        keep_steps: bool = False,
    ) -> None:
        for budget in budgets:
            policy.info.grid.check_budget(budget)
        self.policy = policy
        self.steps: list[StepChoice] = []
        self._generator, self._temperature, self._keep_steps = generator, temperature, keep_steps
        self._targets = budget_shares(budgets).to(policy.embedding.device)
        self._goals = policy.correction.aims(self._targets)
        self._excess = torch.zeros_like(self._targets)
        self._previous = torch.ones_like(self._targets)
        self._cache: BlockCache | None = None
        self._count = 0

    @torch.no_grad()
    def next_actions(self, observation: StepObservation) -> list[Action]:
        policy, episode = self.policy, self.policy.info.episode_steps
        place = self._count % episode
        if place == 0:
            self._cache = None
            self._previous = torch.ones_like(self._targets)
        inputs = self._inputs(observation, place, episode)
        logits, self._cache = policy.logits(inputs, self._cache)
        choice = self._choose(inputs, [head[:, 0] / self._temperature for head in logits])
        levels = policy.axis_levels(choice.choices)
        spend = policy.spends(levels)
        self._excess += spend - self._targets
        self._previous = spend
        self._count += 1
        self.steps = [*self.steps, choice] if self._keep_steps else [choice]
        grids = policy.info.grid.levels()
        return [
            Action(grids[0][keep], grids[1][channels], grids[2][bits])
            for keep, channels, bits in levels.tolist()
        ]

    def inputs(self) -> StepInputs:
        """What was seen at the kept steps, as T steps of R episodes."""
        fields = zip(*(step.inputs for step in self.steps), strict=True)
        return StepInputs(*(torch.cat(parts, 1) for parts in fields))

    def mean_spends(self) -> Tensor:
        """Spent so far: [R, 3], shares of dense."""
        return self._targets + self._excess / max(self._count, 1)

    def distribution(self) -> list[list[list[float]]]:
        """Probability of every level at the last step: [R][3][levels]."""
        probabilities = self.steps[-1].probabilities
        if self.policy.num_heads == 1:
            shape = [len(values) for values in self.policy.levels]
            joint = probabilities[0].unflatten(-1, shape)
            probabilities = [joint.sum((2, 3)), joint.sum((1, 3)), joint.sum((1, 2))]
        per_axis = [axis.tolist() for axis in probabilities]
        return [list(row) for row in zip(*per_axis, strict=True)]

    def _inputs(self, observation: StepObservation, place: int, episode: int) -> StepInputs:
        policy = self.policy
        row = observation_row(observation, self._previous, policy.info.layout)
        targets, count = self._targets, max(self._count, 1)
        flags = targets.new_tensor([[(place + 1) / episode, 1.0]]).expand(targets.shape[0], 2)
        budget = torch.cat((flags, targets, self._excess / count), 1)
        aims = torch.stack(
            [
                aim_for(self._goals[:, axis], self._excess[:, axis], FEEDBACK_STEPS, levels)
                for axis, levels in enumerate(policy.levels)
            ],
            1,
        )
        return StepInputs(row[:, None], observation.tokens[:, None], budget[:, None], aims[:, None])

    def _choose(self, inputs: StepInputs, logits: list[Tensor]) -> StepChoice:
        log_probabilities = [torch.log_softmax(head, -1) for head in logits]
        probabilities = [head.exp() for head in log_probabilities]
        if self._generator is None:
            picks = [head.argmax(-1) for head in logits]
        else:
            picks = [
                torch.multinomial(head, 1, generator=self._generator)[:, 0]
                for head in probabilities
            ]
        chosen = torch.stack(picks, -1)
        log_probability = torch.stack(
            [
                head.gather(-1, pick[:, None])[:, 0]
                for head, pick in zip(log_probabilities, picks, strict=True)
            ]
        ).sum(0)
        return StepChoice(inputs, chosen, log_probability, probabilities)
