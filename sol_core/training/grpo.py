"""The phase "grpo": sampled schedules of a text, compared, and gradient steps on them.

GRPO (SOL, arXiv:2605.10875, section 4): a step's advantage is its discounted return minus the mean
return of its group, which differs only in schedules, at the same step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sol_core.actions import AXES
from sol_core.policy.network import DamageNetwork
from sol_core.policy.policy import Policy, StepInputs, budget_fractions
from sol_core.policy.scheduler import PolicyScheduler, mean_entropy
from sol_core.progress import WorkEvent
from sol_core.training.calibrate import damages_at, measured_prices
from sol_core.training.config import GAPS, GRPO_END, GrpoConfig, TrainConfig
from sol_core.training.held_out import measure
from sol_core.training.run_state import RunState
from sol_core.training.text_prefill import TextPrefill, draw_budgets, prefill_text
from sol_core.training.warm_start import gamma_loss

CALIBRATE_EVERY = 5  # updates
WARM_UP_UPDATES = 5  # Adam's first step without moments would move half of all choices
EPOCHS = 2  # gradient passes over each batch of rollouts
DISCOUNT = 0.85  # γ of the returns
CLIP = 0.2  # limit on the probability ratio
PENALTY, TOLERANCE = 100.0, 0.02  # weight of the squared budget gap; free gap
UPDATE_METRICS = ("loss", "entropy", "clip_fraction", "reward", *GAPS)


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """N = windows · G episodes of T steps."""

    inputs: StepInputs  # of the policy
    choices: Tensor  # [N, T, heads] int64
    log_probability: Tensor  # [N, T]
    advantage: Tensor  # [N, T]
    damage: Tensor  # [N, T] KL to the dense step, nats
    reward: float  # mean task reward per step, nats
    gap: list[float]  # mean spend minus target per axis, fractions of dense


class GrpoLoss(NamedTuple):
    """GRPO's surrogate loss and its detached metrics."""

    loss: Tensor
    entropy: float
    clip_fraction: float


def grpo(state: RunState) -> Iterator[WorkEvent]:
    """Alternate rollouts and updates; refresh prices from the policy's own states."""
    updates, progress = state.config.grpo.updates, state.progress
    state.metrics = {}
    while progress.updates < updates and not state.is_past(GRPO_END):
        _update(state)
        if state.is_measure_due(progress.updates, updates):
            yield from measure(state)
        yield state.report("grpo")


def _update(state: RunState) -> None:
    """Roll out one update's text and update the policy."""
    config, progress = state.config, state.progress
    number = progress.updates
    tokens, generator = state.texts.nth("grpo", number), state.generator_of("grpo", number)
    text = prefill_text(state.model.lm, tokens, config)
    batch = sample_rollouts(state.policy, text, config, generator)
    state.check_finite({"the reward": batch.reward, "the advantage": batch.advantage})
    state.metrics |= grpo_update(state, batch)
    rows = min(config.grpo.windows, config.windows) * config.grpo.rollouts
    state.decisions += rows * config.steps
    progress.updates += 1
    if state.policy.prices and progress.updates % CALIBRATE_EVERY == 0:
        # From this update alone, so that a resumed run sets the same prices.
        damages = damages_at(state.policy, batch.inputs.rows, batch.inputs.tokens)
        state.set_prices(measured_prices(state.policy, [damages]))


def sample_rollouts(
    policy: Policy, text: TextPrefill, config: TrainConfig, generator: torch.Generator
) -> RolloutBatch:
    """Sample G schedules from each window of a text."""
    grpo = config.grpo
    windows = torch.randperm(config.windows, generator=generator)[: grpo.windows]
    starts = [config.starts[window] for window in windows.sort().values.tolist()]
    budgets = draw_budgets(len(starts), config.grid, generator)
    scheduler = PolicyScheduler(
        policy,
        [budget for budget in budgets for _ in range(grpo.rollouts)],
        generator=generator,
        temperature=grpo.temperature,
        keep_steps=True,
    )
    rollout = text.rollout(starts, grpo.rollouts, scheduler)
    rewards = -(rollout.kl if grpo.reward == "kl" else rollout.nll)
    choices = torch.stack([step.choices for step in scheduler.steps], 1)
    groups = len(budgets), -1
    spends = policy.spends(policy.axis_levels(choices)).unflatten(0, groups)
    targets = budget_fractions(budgets).to(spends.device)
    gains = rewards.unflatten(0, groups)
    if grpo.budget == "price" and policy.prices:
        gains = gains - (policy.rule.price(targets)[:, None, None] * spends).sum(-1)
    returns = discounted_returns(gains, DISCOUNT)
    if grpo.budget == "penalty" or not policy.prices:
        returns = returns - budget_penalty(spends, targets)[..., None]
    return RolloutBatch(
        scheduler.inputs(),
        choices,
        torch.stack([step.log_probability for step in scheduler.steps], 1),
        advantages(returns, grpo.whitening).flatten(0, 1),
        rollout.kl,
        float(rewards.mean()),
        (spends.mean((1, 2)) - targets).mean(0).tolist(),
    )


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """``R_t = Σ_{s≥t} γ^(s−t) r_s``: [..., T] → [..., T]."""
    returns = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[..., 0])
    for step in reversed(range(rewards.shape[-1])):
        running = rewards[..., step] + discount * running
        returns[..., step] = running
    return returns


def budget_penalty(spends: Tensor, targets: Tensor) -> Tensor:
    """The paper's ``Σ_axis α · max(|mean spend [B, G, T, axes] − target| − tolerance, 0)²``."""
    weights = PENALTY * spends.new_tensor([axis.penalty for axis in AXES])
    gap = (spends.mean(2) - targets[:, None]).abs() - TOLERANCE
    return (weights * gap.clamp(min=0).square()).sum(-1)


def advantages(returns: Tensor, whitening: Literal["group", "batch"] = "group") -> Tensor:
    """Group-relative, in deviations of their group or batch: [B, G, T] → [B, G, T]."""
    relative = returns - returns.mean(1, keepdim=True)
    # Returns of a harsh budget vary 100 times as much as those of a mild one. Whitened together, as
    # in the paper, the policy learns only harsh budgets.
    axes = (1, 2) if whitening == "group" else (0, 1, 2)
    return relative / relative.std(axes, keepdim=True).clamp(min=1e-6)


def grpo_update(state: RunState, batch: RolloutBatch) -> dict[str, float]:
    """Make ``EPOCHS`` gradient passes over one update's rollouts; return metrics."""
    config, done = state.config.grpo, state.progress.updates
    # Decays to zero: constant steps recovered 24.6 % after 25 updates, 15.9 % after 50.
    pace = min((done + 1) / WARM_UP_UPDATES, 1 - done / max(1, config.updates))
    if config.pace == "constant":
        pace = 1.0
    for _ in range(EPOCHS):
        loss, result = _loss(state.policy, batch, config)
        state.optimiser_step([loss], config.learning_rate * pace)
    numbers = float(result.loss.detach()), result.entropy, result.clip_fraction
    return dict(zip(UPDATE_METRICS, (*numbers, batch.reward, *batch.gap), strict=True))


def _loss(policy: Policy, batch: RolloutBatch, config: GrpoConfig) -> tuple[Tensor, GrpoLoss]:
    """Return the total loss, and its GRPO part."""
    network, inputs = policy.network, batch.inputs
    damage_loss: Tensor | float = 0.0
    if isinstance(network, DamageNetwork):
        # Adds the warm start's loss on the rollouts' steps.
        log_damages = network.log_damages(policy.shapes(inputs)[0])
        predicted = network.total_damage(policy.split_by_head(log_damages), batch.choices)
        logits = policy.split_by_head(policy.logits_at_prices(log_damages, inputs.aims))
        damage_loss = gamma_loss(predicted, batch.damage)
    else:
        logits = policy.split_by_head(policy.logits(inputs)[0])
    result = clipped_loss(logits, batch.choices, batch.log_probability, batch.advantage, config)
    return result.loss + damage_loss, result


def clipped_loss(
    logits: Sequence[Tensor],  # per head [N, T, levels], before the temperature
    choices: Tensor,  # [N, T, heads] int64
    old_log_probability: Tensor,  # old_log_probability, advantage: [N, T]
    advantage: Tensor,
    config: GrpoConfig,
) -> GrpoLoss:
    """Return PPO's clipped surrogate loss with an entropy bonus."""
    log_probability = torch.zeros_like(old_log_probability)
    heads = [torch.log_softmax(values / config.temperature, -1) for values in logits]
    for head, values in enumerate(heads):
        log_probability = log_probability + values.gather(-1, choices[..., head : head + 1])[..., 0]
    entropy = mean_entropy(heads)
    ratio = (log_probability - old_log_probability).exp()
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    loss = -gain.mean() - config.entropy_bonus * entropy.mean()
    outside = (ratio.detach() - 1).abs() > CLIP
    return GrpoLoss(loss, float(entropy.detach().mean()), float(outside.float().mean()))
