"""One GRPO batch: rollouts of sampled schedules, and the inputs of an update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sol_core.actions import AXES, ActionGrid, Budget
from sol_core.policy import Policy, PolicyScheduler
from sol_core.policy.policy import StepInputs, budget_shares
from sol_core.training.config import GrpoConfig, TrainConfig
from sol_core.training.grpo import advantages, budget_penalty, discounted_returns
from sol_core.training.windows import StepScores, TextPrefill


def kl_reward(scores: StepScores) -> Tensor:
    """Minus KL to the dense step, nats: [R]."""
    return -scores.kl


def nll_reward(scores: StepScores) -> Tensor:
    """Log-likelihood of the text's next token, nats: [R]."""
    return -scores.nll


REWARDS: dict[str, Callable[[StepScores], Tensor]] = {"kl": kl_reward, "nll": nll_reward}


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """N = windows · G episodes of T steps.

    Attributes:
        inputs: what the policy saw.
        choices: [N, T, heads] int64.
        log_probability, advantage: [N, T].
        damage: [N, T] KL to the dense step, nats.
        reward: mean task reward per step, nats.
        gap: mean spend minus target per axis, shares of dense.
    """

    inputs: StepInputs
    choices: Tensor
    log_probability: Tensor
    advantage: Tensor
    damage: Tensor
    reward: float
    gap: tuple[float, ...]


def draw_budgets(count: int, grid: ActionGrid, generator: torch.Generator) -> list[Budget]:
    """Targets, uniform over each axis."""
    budgets = []
    for _ in range(count):
        shares = torch.rand(len(AXES), generator=generator).tolist()
        axes = zip(AXES, grid.levels(), shares, strict=True)
        values = {
            axis.field: levels[0] + share * (levels[-1] - levels[0]) for axis, levels, share in axes
        }
        budgets.append(Budget(**values))
    return budgets


def roll_out(
    policy: Policy, text: TextPrefill, config: TrainConfig, generator: torch.Generator
) -> RolloutBatch:
    """Sample G schedules from each of some windows of a text.

    Raises: nothing of its own; numbers that are not finite are the caller's to check.
    """
    grpo = config.grpo
    places = torch.randperm(config.windows, generator=generator)[: grpo.windows]
    starts = [config.starts[place] for place in places.sort().values.tolist()]
    budgets = draw_budgets(len(starts), config.grid, generator)
    scheduler = PolicyScheduler(
        policy,
        [budget for budget in budgets for _ in range(grpo.rollouts)],
        generator=generator,
        temperature=grpo.temperature,
        keep_steps=True,
    )
    steps = text.rollout(starts, grpo.rollouts, scheduler, config.steps, config.grid)
    scored = [(scores.kl, REWARDS[grpo.reward](scores)) for scores in steps]
    damage, rewards = (torch.stack(column, 1) for column in zip(*scored, strict=True))
    return _batch(scheduler, damage, rewards, budgets, grpo)


def _batch(
    scheduler: PolicyScheduler,
    damage: Tensor,
    rewards: Tensor,
    budgets: Sequence[Budget],
    config: GrpoConfig,
) -> RolloutBatch:
    policy, steps = scheduler.policy, scheduler.steps
    choices = torch.stack([step.choices for step in steps], 1)
    spends = policy.spends(policy.axis_levels(choices))
    grouped_spends = spends.unflatten(0, (len(budgets), -1))
    targets = budget_shares(budgets).to(spends.device)
    grouped = rewards.unflatten(0, (len(budgets), -1))
    if config.budget == "price" and policy.prices:
        prices = policy.rule.price(targets)
        grouped = grouped - (prices[:, None, None] * grouped_spends).sum(-1)
    returns = discounted_returns(grouped, config.discount)
    if config.budget == "penalty" or not policy.prices:
        penalty = budget_penalty(grouped_spends, targets, config)
        returns = returns - penalty[..., None]
    gap = (grouped_spends.mean((1, 2)) - targets).mean(0).tolist()
    return RolloutBatch(
        scheduler.inputs(),
        choices,
        torch.stack([step.log_probability for step in steps], 1),
        advantages(returns, config.whitening).flatten(0, 1),
        damage,
        float(rewards.mean()),
        tuple(gap),
    )
