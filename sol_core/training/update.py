"""Gradient steps: one batch of labels, one batch of rollouts; and new prices after them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sol_core.policy import Policy
from sol_core.policy.network import DamageNetwork
from sol_core.policy.policy import StepInputs
from sol_core.policy.prices import PriceTable
from sol_core.training.grpo import clipped_loss
from sol_core.training.labels import LabelledSteps
from sol_core.training.rollouts import RolloutBatch
from sol_core.training.run_state import RunState
from sol_core.training.warm_start import damage_loss, gamma_loss, learning_rate_at

__all__ = ["grpo_update", "prices_from", "warm_step"]

WARM_UP_UPDATES = 5  # Adam's first step without moments would move half of all choices


def warm_step(state: RunState, batch: LabelledSteps, step: int, num_steps: int) -> float:
    """One gradient step on labelled episodes; returns the loss.

    Raises: TrainingDivergedError.
    """
    network = state.policy.network
    assert isinstance(network, DamageNetwork)
    network.train()
    loss = damage_loss(network, batch, state.policy.embedding)
    state.check_finite({"the loss": loss.detach()})
    _set_learning_rate(state, learning_rate_at(step, num_steps, state.config.warm_start))
    _descend(state, loss, 1.0)
    network.eval()
    return float(loss.detach())


def grpo_update(state: RunState, batch: RolloutBatch) -> dict[str, float]:
    """Some gradient passes over one batch of rollouts; returns metrics.

    Raises: TrainingDivergedError before a parameter is touched by a bad number.
    """
    config = state.config.grpo
    state.check_finite({"the reward": batch.reward, "the advantage": batch.advantage})
    # Falling to zero: constant steps wandered off after some 25 updates (docs/results.md).
    done = state.progress.updates
    pace = min((done + 1) / WARM_UP_UPDATES, 1 - done / max(1, config.updates))
    _set_learning_rate(state, config.learning_rate * pace)
    losses = []
    for _ in range(config.epochs):
        logits, damage_loss = _logits_and_damage_loss(state.policy, batch)
        result = clipped_loss(logits, batch.choices, batch.log_probability, batch.advantage, config)
        loss = result.loss + config.damage_weight * damage_loss
        state.check_finite({"the loss": loss.detach()})
        _descend(state, loss, config.max_gradient_norm)
        losses.append(result)
    return {
        "loss": float(losses[-1].loss.detach()),
        "entropy": losses[-1].entropy,
        "clip_fraction": losses[-1].clip_fraction,
    }


@torch.no_grad()
def prices_from(
    policy: Policy, inputs: Sequence[tuple[Tensor, Tensor]] | Sequence[StepInputs]
) -> list[PriceTable]:
    """Price tables from the states that episodes went through.

    Args:
        inputs: rows [N, T, width] and tokens [N, T] of some episodes.
    """
    network = policy.network
    assert isinstance(network, DamageNetwork)
    network.eval()
    parts: list[list[Tensor]] = [[], [], []]
    for item in inputs:
        log_damages, _, _ = network(item[0], policy.embedding[item[1]])
        for axis, log_damage in enumerate(log_damages):
            parts[axis].append(log_damage.flatten(0, 1).exp())
    return [
        PriceTable.measure(torch.cat(damages), levels)
        for damages, levels in zip(parts, policy.levels, strict=True)
    ]


def _logits_and_damage_loss(
    policy: Policy, batch: RolloutBatch
) -> tuple[list[Tensor], Tensor | float]:
    """Logits of each head [N, T, levels], and the warm start's loss on the rollouts' own steps:
    an anchor, on states that matter. One pass through the network gives both.
    """
    network, inputs = policy.network, batch.inputs
    if not isinstance(network, DamageNetwork):
        return policy.per_head(policy.logits(inputs)[0]), 0.0
    encoded, _ = network.encoder(inputs.rows, policy.embedding[inputs.tokens])
    log_damages = network.log_damages(encoded)
    predicted = network.total_damage(policy.per_head(log_damages), batch.choices)
    logits = policy.per_head(policy.priced(log_damages, inputs.aims))
    return logits, gamma_loss(predicted, batch.damage)


def _descend(state: RunState, loss: Tensor, max_norm: float) -> None:
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.policy.network.parameters(), max_norm)
    state.check_finite({"the gradient": norm})
    state.optimiser.step()


def _set_learning_rate(state: RunState, rate: float) -> None:
    for group in state.optimiser.param_groups:
        group["lr"] = rate
