"""GRPO (SOL, arXiv:2605.10875, section 4): the mathematics, free of models and files.

G rollouts of one text differ only in their schedules; a step's advantage is its discounted
return minus the mean return of the group at the same step. No value network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sol_core.actions import AXES
from sol_core.policy.scheduler import mean_entropy
from sol_core.training.config import GrpoConfig


@dataclass(frozen=True, slots=True)
class GrpoLoss:
    """A loss to descend and what it is made of (detached scalars)."""

    loss: Tensor
    entropy: float
    clip_fraction: float


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """``R_t = Σ_{s≥t} γ^(s−t) r_s``: [..., T] → [..., T]."""
    returns = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[..., 0])
    for step in reversed(range(rewards.shape[-1])):
        running = rewards[..., step] + discount * running
        returns[..., step] = running
    return returns


def budget_penalty(spends: Tensor, targets: Tensor, config: GrpoConfig) -> Tensor:
    """The paper's penalty: ``Σ_axis α · max(|mean spend − target| − tolerance, 0)²``.

    Args:
        spends: [B, G, T, axes], shares of dense.
        targets: [B, axes].
    Returns: [B, G]; α of the bits is doubled, as in the paper.
    """
    weights = config.penalty * spends.new_tensor([axis.penalty for axis in AXES])
    gap = (spends.mean(2) - targets[:, None]).abs() - config.tolerance
    return (weights * gap.clamp(min=0).square()).sum(-1)


def advantages(returns: Tensor, whitening: Literal["group", "batch"] = "group") -> Tensor:
    """Group-relative advantages, in deviations of their group or batch: [B, G, T] → [B, G, T].

    Each group's advantages sum to zero at every step. A group has one budget, and a harsh one's
    returns vary a hundred times as much as a mild one's: whitened together, as in the paper, only
    harsh budgets are learnt.
    """
    relative = returns - returns.mean(1, keepdim=True)
    axes = (1, 2) if whitening == "group" else (0, 1, 2)
    return relative / relative.std(axes, keepdim=True).clamp(min=1e-6)


def clipped_loss(
    logits: Sequence[Tensor],
    choices: Tensor,
    old_log_probability: Tensor,
    advantage: Tensor,
    config: GrpoConfig,
) -> GrpoLoss:
    """PPO's clipped surrogate with an entropy bonus, to be minimised.

    Args:
        logits: per head [N, T, levels], before the temperature.
        choices: [N, T, heads] int64.
        old_log_probability, advantage: [N, T].
    """
    log_probability = torch.zeros_like(old_log_probability)
    heads = [torch.log_softmax(values / config.temperature, -1) for values in logits]
    for head, values in enumerate(heads):
        log_probability = log_probability + values.gather(-1, choices[..., head : head + 1])[..., 0]
    entropy = mean_entropy(heads)
    ratio = (log_probability - old_log_probability).exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    loss = -gain.mean() - config.entropy_bonus * entropy.mean()
    outside = (ratio.detach() - 1).abs() > config.clip
    return GrpoLoss(loss, float(entropy.detach().mean()), float(outside.float().mean()))
