"""Ways to spend the same compute on the same tokens: evenly, by a policy, in hindsight.

Only the channels differ from step to step. What a step loses at a level is measured for
that step alone (``alone.py``). Hindsight knows all these losses and buys channels where
they save most: a policy's price rule with the damage known instead of predicted. It marks
how much there is to win; what a policy decides, it decides before the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sol_core.actions import Action, ActionGrid, Budget
from sol_core.decoding.loop import DecodeOptions, observed_prefill
from sol_core.decoding.schedules import Observation, StaticScheduler
from sol_core.decoding.teacher_forcing import teacher_forced
from sol_core.experiments.alone import StepLoss, losses_alone
from sol_core.models.loading import LanguageModel
from sol_core.policy import Policy, PolicyScheduler


@dataclass(frozen=True, slots=True)
class Spender:
    """One way to spend."""

    name: str  # "even", "policy" or "hindsight"
    channels: tuple[float, ...]  # kept, per step
    losses: tuple[StepLoss, ...]  # per step, at these channels, alone

    @property
    def spend(self) -> float:
        """Mean channels kept."""
        return sum(self.channels) / len(self.channels)


def hindsight(
    damages: Sequence[Sequence[float]], levels: Sequence[float], mean: float
) -> list[int]:
    """The level of each step, so that their mean is at most ``mean`` and the damage least.

    Starts everywhere at the lowest level and buys the step up that saves most per channel;
    a step of several levels counts as one where the damage does not fall evenly.

    Args:
        damages: [steps][levels] nats; levels ascending.
    """
    chosen = [0] * len(damages)
    left = mean * len(damages) - levels[0] * len(damages) + 1e-9
    while True:
        offers = [
            ((row[at] - row[up]) / (levels[up] - levels[at]), step, up)
            for step, (row, at) in enumerate(zip(damages, chosen, strict=True))
            for up in range(at + 1, len(levels))
            if levels[up] - levels[at] <= left
        ]
        gain, step, up = max(offers, default=(0.0, 0, 0))
        if gain <= 0:
            return chosen
        left -= levels[up] - levels[chosen[step]]
        chosen[step] = up


def compare_spenders(
    model: LanguageModel,
    tokens: Sequence[int],
    first: int,
    budget: float,
    policy: Policy | None,
) -> tuple[list[Spender], list[list[StepLoss]]]:
    """Return the losses of tokens ``first`` … last under each spender.

    All spend on average what the policy really spent; without one, the budget.

    Returns: the spenders, and the losses they are looked up in, [levels][steps].
    """
    grid = policy.info.grid if policy else ActionGrid()
    levels = grid.channel_keep_ratios
    table = losses_alone(
        model, tokens, first, [Action(channel_keep_ratio=level) for level in levels], grid
    )
    steps = len(tokens) - first
    plans: dict[str, list[float]] = {}
    if policy:
        plans["policy"] = _policy_plan(model, tokens, first, policy, budget)
        budget = sum(plans["policy"]) / steps
    scheduler = StaticScheduler(Budget(channel_keep_ratio=budget), grid)
    plans["even"] = [
        scheduler.next_action(Observation(step)).channel_keep_ratio for step in range(steps)
    ]
    damages = [[row[step].kl for row in table] for step in range(steps)]
    plans["hindsight"] = [levels[at] for at in hindsight(damages, levels, budget)]
    spenders = [
        Spender(
            name,
            tuple(plan),
            tuple(table[levels.index(level)][step] for step, level in enumerate(plan)),
        )
        for name, plan in plans.items()
    ]
    return spenders, table


@torch.no_grad()
def _policy_plan(
    model: LanguageModel, tokens: Sequence[int], first: int, policy: Policy, budget: float
) -> list[float]:
    """The channels that the policy keeps, step by step, watching its own compressed steps."""
    grid, start = policy.info.grid, first - 1
    prefix = model.lm.new_cache(1, start, page_size=grid.page_size)
    context = torch.tensor([list(tokens[:start])], device=model.lm.device)
    state = observed_prefill(model.lm, context, prefix, grid.mechanisms)

    scheduler = PolicyScheduler(policy, [Budget(channel_keep_ratio=budget)])
    options = DecodeOptions(len(tokens) - first, mechanisms=grid.mechanisms)
    scores = teacher_forced(model.lm, prefix, [tokens[start:]], scheduler, options, state)
    return [scored.step.actions[0].channel_keep_ratio for scored in scores]
