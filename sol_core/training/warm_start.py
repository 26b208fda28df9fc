"""The first phase of training: damage labels from random schedules, and a fit.

A step's label is its KL to the dense step. The fit is a gamma regression with a log link, ``loss =
y / m + log m``: least where m is the conditional mean, and alike at 0.01 and at 1 nat. An auxiliary
head predicts the dense step's entropy, which helps (docs/results.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sol_core.actions import AXES, Action, ActionGrid
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.errors import ConfigError, PolicyError
from sol_core.files.staging import read_safetensors, replacing, write_safetensors
from sol_core.models import FrozenLM
from sol_core.policy.info import InputLayout
from sol_core.policy.network import (
    DamageNetwork,
    kept_rows,
    level_values,
    observation_row,
    observed_by,
)
from sol_core.training.config import TrainConfig, WarmStartConfig
from sol_core.training.rollouts import prefill_text

LABELS_FOLDER = "labels"  # of a run
EPISODES_PER_BATCH = 64
ENTROPY_WEIGHT = 0.3
DAMAGE_RANGE = (1e-4, 8.0)  # nats; below is rounding, above is one token's bad luck
# At most a fifth of all steps: a short run at a rising step size learnt a quarter less.
WARM_UP_STEPS, WARM_UP_SHARE = 50, 1 / 5


class LabelledSteps(NamedTuple):
    """Steps of N episodes."""

    rows: Tensor  # [N, T, layout.width] fp16, see ``policy/network.py``
    tokens: Tensor  # [N, T] int64, fed at each step
    levels: Tensor  # [N, T, axes] uint8
    damage: Tensor  # [N, T] fp32, KL to the dense step, nats
    entropy: Tensor  # [N, T] fp32, of the dense step

    def take(self, index: Tensor) -> LabelledSteps:
        return LabelledSteps(*(values[index] for values in self))

    def to(self, device: torch.device) -> LabelledSteps:
        return LabelledSteps(*(values.to(device) for values in self))


def label_text(
    lm: FrozenLM, tokens: Sequence[int], config: TrainConfig, generator: torch.Generator
) -> LabelledSteps:
    """Label every step of every window of one text."""
    layout = InputLayout.of(lm.spec, config.policy)
    text = prefill_text(lm, tokens, config.grid, config.starts)
    starts = config.starts
    group = config.warm_start.schedules
    levels = draw_levels(config.grid, (len(starts) * group, config.steps), generator)
    scheduler = ExplorationScheduler(levels, config.grid, layout)
    damage, entropy = [], []
    for scores in text.rollout(starts, group, scheduler, config.steps, config.grid):
        damage.append(scores.kl.cpu())
        entropy.append(scores.dense_entropy.repeat_interleave(group).cpu())
    places = torch.tensor(starts)[:, None] + torch.arange(config.steps)
    return LabelledSteps(
        torch.stack(scheduler.rows, 1),
        text.tokens[places].repeat_interleave(group, 0),
        levels.to(torch.uint8),
        torch.stack(damage, 1),
        torch.stack(entropy, 1),
    )


def share_labels(
    store: Path, shared: Path, about: dict[str, Any], made_with: dict[str, Any]
) -> None:
    """Let a run keep its labels in a folder that other runs have, too.

    Args:
        store: where the run looks for its labels; becomes a link.
        about: what decides a label; kept in the folder with what made the first.
    Raises: ConfigError for a folder whose labels are others, and for a run that has its own.
    """
    shared.mkdir(parents=True, exist_ok=True)
    path, about = shared / "labels.json", json.loads(json.dumps(about))
    if not path.exists():
        with replacing(path) as staged:
            staged.write_text(json.dumps(about | {"made_with": made_with}, indent=1), "utf-8")
    try:
        known = json.loads(path.read_text("utf-8"))
        other = next((name for name, value in about.items() if known[name] != value), None)
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): name another folder") from error
    if other is not None:
        raise ConfigError(
            f"{shared} has labels of another {other} ({known[other]}, this run has "
            f"{about[other]}): name another folder"
        )
    if not store.exists():
        store.symlink_to(shared.resolve(), target_is_directory=True)
    elif store.resolve() != shared.resolve():
        raise ConfigError(
            f"this run has its labels in {store.resolve()}: go on with that folder, or with none"
        )


def write_labels(labels: LabelledSteps, path: Path) -> None:
    """Raises: OSError when the disk is full; nothing is then left at ``path``."""
    with replacing(path) as staged:
        tensors = {name: values.contiguous() for name, values in labels._asdict().items()}
        write_safetensors(tensors, staged)


def read_labels(path: Path) -> LabelledSteps:
    """Raises: PolicyError for a file that is missing or damaged."""
    try:
        return LabelledSteps(**read_safetensors(path, "pt")[1])
    except (OSError, ValueError, TypeError) as error:
        raise PolicyError(
            f"the labels {path} are missing or damaged ({error}): start the training anew"
        ) from error


def draw_levels(grid: ActionGrid, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Level indices [rows, steps, axes] int64 of random schedules."""
    rows, steps = shape
    axes = []
    for axis, values in zip(AXES, level_values(grid), strict=True):
        above, high, scatter, dense = axis.draws
        low = float(values[0]) + above
        mean = low + (high - low) * torch.rand(rows, 1, generator=generator)
        wish = mean + scatter * torch.randn(rows, steps, generator=generator)
        is_dense = torch.rand(rows, 1, generator=generator) < dense
        wish = torch.where(is_dense, float(values[-1]), wish)
        axes.append((wish[..., None] - values).abs().argmin(-1))
    return torch.stack(axes, -1)


class ExplorationScheduler:
    """Plays drawn levels and keeps what a policy would have seen; levels: [R, T, axes] int64."""

    def __init__(self, levels: Tensor, grid: ActionGrid, layout: InputLayout) -> None:
        self._levels, self._grid, self._layout = levels, grid, layout
        self.observes = observed_by(layout)
        self._values = level_values(grid)
        self.rows: list[Tensor] = []  # per step [R, layout.width] fp16

    def next_actions(self, observation: StepObservation) -> Sequence[Action]:
        step = observation.step
        if step == 0:
            previous = torch.ones(self._levels.shape[0], len(self._values))
        else:
            taken = self._levels[:, step - 1].unbind(-1)
            axes = zip(self._values, taken, strict=True)
            previous = torch.stack([values[levels] for values, levels in axes], -1)
        seen = observation_row(observation, previous, self._layout)
        self.rows.append(kept_rows(seen, self._layout).cpu())
        return [self._grid.action(places) for places in self._levels[:, step].tolist()]


def damage_loss(network: DamageNetwork, batch: LabelledSteps, embedding: Tensor) -> Tensor:
    """Mean loss of some episodes, a scalar; embedding: [V, C] of the language model."""
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
    rise = min(1.0, (step + 1) / min(WARM_UP_STEPS, max(1.0, WARM_UP_SHARE * num_steps)))
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / max(1, num_steps)))
