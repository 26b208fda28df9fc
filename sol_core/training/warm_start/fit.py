"""The warm start: learn to predict damage from labelled steps.

Gamma regression with a log link: ``loss = y / m + log m`` for label y and prediction m. It
is least where m is the conditional mean of y, whatever the noise, and weighs a factor of
two alike at 0.01 and at 1 nat. An auxiliary head predicts the entropy of the dense step,
which helps (docs/results.md).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sol_core.policy.network import DamageNetwork
from sol_core.training.config import WarmStartConfig
from sol_core.training.warm_start.labels import LabelledSteps

EPISODES_PER_BATCH = 64
ENTROPY_WEIGHT = 0.3
DAMAGE_RANGE = (1e-4, 8.0)  # nats; below is rounding, above is one token's bad luck
WARM_UP_STEPS = 50


def damage_loss(network: DamageNetwork, batch: LabelledSteps, embedding: Tensor) -> Tensor:
    """Mean loss of some episodes, a scalar.

    Args:
        embedding: [V, C] of the language model.
    """
    log_damages, log_entropy, _ = network(batch.rows, embedding[batch.tokens])
    fit = gamma_loss(network.total_damage(log_damages, batch.levels.long()), batch.damage)
    return fit + ENTROPY_WEIGHT * F.mse_loss(log_entropy, (batch.entropy + 0.1).log())


def gamma_loss(predicted: Tensor, damage: Tensor) -> Tensor:
    """Mean of ``y / m + log m``, a scalar; least where m is the conditional mean of y."""
    return (damage.clamp(*DAMAGE_RANGE) / predicted + predicted.log()).mean()


def batches_of_epoch(num_episodes: int, seed: int, epoch: int) -> list[Tensor]:
    """Episode numbers of each batch of one epoch, in an order that the seed decides."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return list(torch.randperm(num_episodes, generator=generator).split(EPISODES_PER_BATCH))


def learning_rate_at(step: int, num_steps: int, config: WarmStartConfig) -> float:
    """Linear warm-up, then a half cosine to zero."""
    rise = min(1.0, (step + 1) / WARM_UP_STEPS)
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / max(1, num_steps)))
