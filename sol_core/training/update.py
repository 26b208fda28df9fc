"""Gradient steps: one batch of labels, one batch of rollouts; and new prices after them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sol_core.actions import AXES
from sol_core.policy import Policy
from sol_core.policy.network import DamageNetwork
from sol_core.policy.policy import StepInputs
from sol_core.policy.prices import PriceTable
from sol_core.training.config import gap_metrics
from sol_core.training.rollouts import GrpoLoss, RolloutBatch, clipped_loss
from sol_core.training.run_state import RunState
from sol_core.training.warm_start import LabelledSteps, damage_loss, gamma_loss, learning_rate_at

# Ranks take such parts of a batch of labels: each draws its own dropout.
EPISODES_PER_PART = 16
UPDATE_METRICS = ("loss", "entropy", "clip_fraction", "reward")  # and the axes' gaps
WARM_UP_UPDATES = 5  # Adam's first step without moments would move half of all choices


def warm_step(state: RunState, batch: LabelledSteps, step: int, num_steps: int) -> float:
    """One gradient step on labelled episodes, shared out in parts; returns the loss."""
    network = state.policy.damage_network
    parts = torch.arange(batch.damage.shape[0]).split(EPISODES_PER_PART)

    def loss_of(number: int) -> Tensor:
        torch.manual_seed(state.seed_of(f"warm {step}", number))  # for dropout
        part = batch.take(parts[number]).to(state.policy.embedding.device)
        share = len(parts[number]) / batch.damage.shape[0]
        return share * damage_loss(network, part, state.policy.embedding)

    network.train()
    _set_learning_rate(state, learning_rate_at(step, num_steps, state.config.warm_start))
    losses = (loss_of(number) for number in state.ranks.share(range(len(parts))))
    loss = _descend(state, losses, 1.0)
    network.eval()
    return loss


def grpo_update(state: RunState, batches: Sequence[RolloutBatch]) -> dict[str, float]:
    """Some gradient passes over one update's rollouts; returns metrics."""
    config = state.config.grpo
    # Falling to zero: constant steps recovered 24.6 % after 25 updates, 15.9 % after 50.
    done = state.progress.updates
    pace = min((done + 1) / WARM_UP_UPDATES, 1 - done / max(1, config.updates))
    if config.pace == "constant":
        pace = 1.0
    _set_learning_rate(state, config.learning_rate * pace)
    for _ in range(config.epochs):
        results: list[GrpoLoss] = []
        losses = (_grpo_loss(state, batch, results) for batch in batches)
        _descend(state, losses, config.max_gradient_norm)
    rows = [
        (
            float(result.loss.detach()),
            result.entropy,
            result.clip_fraction,
            batch.reward,
            *batch.gap,
        )
        for result, batch in zip(results, batches, strict=True)
    ]
    columns = len(UPDATE_METRICS) + len(AXES)
    sums = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), columns).sum(0)
    state.ranks.add(sums)
    means = (sums / config.texts).tolist()
    gaps = gap_metrics(means[len(UPDATE_METRICS) :])
    return dict(zip(UPDATE_METRICS, means, strict=False)) | gaps


def _grpo_loss(state: RunState, batch: RolloutBatch, results: list[GrpoLoss]) -> Tensor:
    """One text's part of the update's loss; what it is made of is added to ``results``."""
    config = state.config.grpo
    logits, damage_loss = _logits_and_damage_loss(state.policy, batch)
    result = clipped_loss(logits, batch.choices, batch.log_probability, batch.advantage, config)
    results.append(result)
    return (result.loss + config.damage_weight * damage_loss) / config.texts


@torch.no_grad()
def damages_at(policy: Policy, episodes: StepInputs | LabelledSteps) -> list[Tensor]:
    """Predicted damage per axis, [M, levels] each on the CPU, in states of N · T = M steps."""
    network = policy.damage_network
    network.eval()
    rows = episodes.rows.to(policy.embedding.device)
    encoded, _ = network.encoder(rows, policy.embedding[episodes.tokens])
    return damages_of(policy, network.shapes(encoded))


@torch.no_grad()
def damages_of(policy: Policy, shapes: Tensor) -> list[Tensor]:
    """From sensitivity and slope, [N, T, axes, 2]."""
    log_damages = policy.damage_network.log_damages(shapes.to(policy.embedding.device))
    return [axis.flatten(0, 1).exp().cpu() for axis in policy.per_head(log_damages)]


def prices_from(policy: Policy, seen: Sequence[Sequence[Tensor]]) -> list[PriceTable]:
    """Price tables from the damages of several groups of states (``damages_at``)."""
    return [
        PriceTable.measure(torch.cat(damages), levels.cpu())
        for damages, levels in zip(zip(*seen, strict=True), policy.levels, strict=True)
    ]


def _logits_and_damage_loss(
    policy: Policy, batch: RolloutBatch
) -> tuple[list[Tensor], Tensor | float]:
    """Logits of each head [N, T, levels], and the warm start's loss on the rollouts' own steps."""
    network, inputs = policy.network, batch.inputs
    if not isinstance(network, DamageNetwork):
        return policy.per_head(policy.logits(inputs)[0]), 0.0
    encoded, _ = network.encoder(inputs.rows, policy.embedding[inputs.tokens])
    log_damages = network.log_damages(network.shapes(encoded))
    predicted = network.total_damage(policy.per_head(log_damages), batch.choices)
    logits = policy.per_head(policy.priced(log_damages, inputs.aims))
    return logits, gamma_loss(predicted, batch.damage)


def _descend(state: RunState, losses: Iterable[Tensor], max_norm: float) -> float:
    """One step down the sum of all ranks' losses; returns that sum."""
    state.optimiser.zero_grad(set_to_none=True)
    total = torch.zeros(())
    for loss in losses:
        loss.backward()
        total += loss.detach().cpu()
    parameters = list(state.policy.network.parameters())
    state.ranks.add(total)
    state.ranks.add_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    state.check_finite({"the loss": total, "the gradient": norm})
    state.optimiser.step()
    return float(total)


def _set_learning_rate(state: RunState, rate: float) -> None:
    for group in state.optimiser.param_groups:
        group["lr"] = rate
