"""The phases "labelling" and "warm start": fit the network to damage under random schedules.

A step's label is its KL to the dense step. The fit is a gamma regression with a log link, ``loss =
y / m + log m``. It is minimal at the conditional mean and scale-invariant: 0.01 nats weigh like 1.
An auxiliary head predicts the dense step's entropy, which helps (docs/results.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sol_core.actions import AXES, Action, ActionGrid
from sol_core.decoding.batch_scheduling import PlannedRows, StepObservation
from sol_core.errors import PolicyError
from sol_core.files.staging import read_safetensors, replacing, sealed, write_safetensors
from sol_core.models import FrozenLM
from sol_core.policy.info import InputLayout
from sol_core.policy.network import DamageNetwork, level_values, observed_signals
from sol_core.policy.step import input_rows, rows_in_float16
from sol_core.progress import WorkEvent
from sol_core.training.calibrate import damages_at, measured_prices
from sol_core.training.checkpoint import LABELS
from sol_core.training.config import (
    GRPO_END,
    LABEL_END,
    SCHEDULES,
    WARM_END,
    TrainConfig,
    WarmStartConfig,
)
from sol_core.training.held_out import measure
from sol_core.training.run_state import RunState
from sol_core.training.text_prefill import prefill_text

EPISODES_PER_BATCH = 64
EPISODES_PER_PART = 16  # each part draws its own dropout
CALIBRATION_EPISODES = 400
ENTROPY_WEIGHT = 0.3
DAMAGE_RANGE = (1e-4, 8.0)  # nats, clamped: rounding below, outliers above
# At most a fifth of all steps: short runs that were mostly warm-up learnt a quarter less.
WARM_UP_STEPS, WARM_UP_FRACTION = 50, 1 / 5


class LabelledSteps(NamedTuple):
    """Steps of N episodes."""

    rows: Tensor  # [N, T, layout.width] fp16, see ``policy/step.py``
    tokens: Tensor  # [N, T] int64, the tokens fed
    levels: Tensor  # [N, T, axes] uint8
    damage: Tensor  # [N, T] fp32, KL to the dense step, nats
    entropy: Tensor  # [N, T] fp32, of the dense step

    def take(self, index: Tensor) -> LabelledSteps:
        return LabelledSteps(*(values[index] for values in self))


def label(state: RunState) -> Iterator[WorkEvent]:
    """Label texts under random schedules, one file a text."""
    progress = state.progress
    (state.folder / LABELS).mkdir(exist_ok=True)
    limit = state.config.warm_start.texts
    end = LABEL_END if state.config.grpo.updates else GRPO_END * LABEL_END / WARM_END
    while progress.labelled < limit:
        if progress.labelled and state.is_past(end):
            break
        _label(state, progress.labelled)
        progress.labelled += 1
        yield state.report("labelling")
    progress.label_limit = progress.labelled


def _label_file(state: RunState, number: int) -> Path:
    return state.folder / LABELS / f"{number:05d}.safetensors"


def _label(state: RunState, number: int) -> None:
    """Label a text unless its file exists."""
    path = _label_file(state, number)
    if not path.exists():
        tokens, generator = state.texts.nth("label", number), state.generator_of("label", number)
        labels = label_text(state.model.lm, tokens, state.config, generator)
        state.check_finite({"a label": labels.damage, "an input": labels.rows})
        tensors = {name: value.contiguous() for name, value in labels._asdict().items()}
        with replacing(path) as staged:
            write_safetensors(tensors, staged, sealed(tensors, {"text": str(number)}))
        state.decisions += labels.damage.numel()
    state.metrics["loss"] = float(read_labels(path).damage.mean())


def label_text(
    lm: FrozenLM, tokens: Sequence[int], config: TrainConfig, generator: torch.Generator
) -> LabelledSteps:
    """Label every step of every window of one text."""
    starts, group = config.starts, SCHEDULES
    text = prefill_text(lm, tokens, config)
    levels = draw_levels(config.grid, (len(starts) * group, config.steps), generator)
    layout = InputLayout.of(lm.spec, config.policy)
    scheduler = ExplorationScheduler(levels, config.grid, layout)
    rollout = text.rollout(starts, group, scheduler)
    positions = torch.tensor(starts)[:, None] + torch.arange(config.steps)
    return LabelledSteps(
        torch.stack(scheduler.rows, 1),
        text.tokens[positions].repeat_interleave(group, 0),
        levels.to(torch.uint8),
        rollout.kl.cpu(),
        rollout.dense_entropy.repeat_interleave(group, 0).cpu(),
    )


def read_labels(path: Path) -> LabelledSteps:
    """Read a text's labels. Raises: PolicyError for a missing or damaged file."""
    try:
        header, tensors = read_safetensors(path, "pt")
        if header.get("text", number := str(int(path.stem))) != number:
            raise ValueError(f"they are of text {header['text']}")
        return LabelledSteps(**tensors)
    except (OSError, ValueError, TypeError) as error:
        raise PolicyError(
            f"the labels {path} are missing or damaged ({error}): start the training anew"
        ) from error


def draw_levels(grid: ActionGrid, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw random schedules as level indices, [rows, steps, axes] int64."""
    rows, steps = shape
    axes = []
    for axis, values in zip(AXES, level_values(grid), strict=True):
        above, high, scatter, dense = axis.draws
        low = float(values[0]) + above
        mean = low + (high - low) * torch.rand(rows, 1, generator=generator)
        wanted = mean + scatter * torch.randn(rows, steps, generator=generator)
        is_dense = torch.rand(rows, 1, generator=generator) < dense
        wanted = torch.where(is_dense, float(values[-1]), wanted)
        axes.append((wanted[..., None] - values).abs().argmin(-1))
    return torch.stack(axes, -1)


class ExplorationScheduler(PlannedRows):
    """Plays given levels, [R, T, axes] int64, and records a policy's inputs at each step."""

    def __init__(self, levels: Tensor, grid: ActionGrid, layout: InputLayout) -> None:
        plans = [[grid.action(step) for step in row] for row in levels.tolist()]
        super().__init__(plans, observed_signals(layout))
        self._layout = layout
        axes = zip(level_values(grid), levels.unbind(-1), strict=True)
        spends = torch.stack([values[taken] for values, taken in axes], -1)
        # [R, 1 + T, axes], levels of the previous step; an episode's first follows a dense prefix.
        self._previous = torch.cat((torch.ones_like(spends[:, :1]), spends), 1)
        self.rows: list[Tensor] = []  # per step [R, layout.width] fp16

    def next_actions(self, observation: StepObservation) -> list[Action]:
        seen = input_rows(observation, self._previous[:, observation.step], self._layout)
        self.rows.append(rows_in_float16(seen, self._layout).cpu())
        return super().next_actions(observation)


def warm_start(state: RunState) -> Iterator[WorkEvent]:
    """Fit the labels; update prices and measure held-out quality along the way."""
    config, progress = state.config, state.progress

    texts = [read_labels(_label_file(state, n)) for n in range(progress.label_limit or 0)]
    labels = LabelledSteps(*(torch.cat(values) for values in zip(*texts, strict=True)))
    episodes = labels.damage.shape[0]
    per_epoch = len(batches_of_epoch(episodes, config.seed, 0))
    total = per_epoch * config.warm_start.epochs
    end = WARM_END if config.grpo.updates else GRPO_END
    while progress.warm_steps < total and not state.is_past(end):
        step = progress.warm_steps
        if step == 0:
            encoder = state.policy.damage_network.encoder
            encoder.fit_scales(labels.rows[:: max(1, episodes // 2000)])
        epoch, batch = divmod(step, per_epoch)
        index = batches_of_epoch(episodes, config.seed, epoch)[batch]
        rate = learning_rate_at(step, total, config.warm_start)
        state.metrics["loss"] = _warm_step(state, labels.take(index), rate)
        progress.warm_steps += 1
        if state.is_measure_due(step + 1, total):
            _price(state, labels)
            yield from measure(state)
        yield state.report("warm start")
    _price(state, labels)
    state.optimiser.state.clear()  # GRPO starts with fresh moments


def _price(state: RunState, labels: LabelledSteps) -> None:
    episodes = labels.damage.shape[0]
    sample = labels.take(torch.arange(0, episodes, max(1, episodes // CALIBRATION_EPISODES)))
    damages = damages_at(state.policy, sample.rows, sample.tokens)
    state.set_prices(measured_prices(state.policy, [damages]))


def _warm_step(state: RunState, batch: LabelledSteps, rate: float) -> float:
    """Take one gradient step on labelled episodes; return the loss."""
    network, embedding = state.policy.damage_network, state.policy.embedding
    parts = torch.arange(batch.damage.shape[0]).split(EPISODES_PER_PART)

    def loss_of(number: int) -> Tensor:
        # Seeds dropout.
        torch.manual_seed(state.seed_of(f"warm {state.progress.warm_steps}", number))
        some = LabelledSteps(*(values[parts[number]].to(embedding.device) for values in batch))
        weight = len(parts[number]) / batch.damage.shape[0]
        return weight * damage_loss(network, some, embedding)

    network.train()
    losses = (loss_of(number) for number in range(len(parts)))
    loss = state.optimiser_step(losses, rate)
    network.eval()
    return loss


def damage_loss(network: DamageNetwork, batch: LabelledSteps, embedding: Tensor) -> Tensor:
    """Return the episodes' mean loss; embedding: [V, C] of the language model."""
    log_damages, log_entropy, _ = network(batch.rows, embedding[batch.tokens])
    fit = gamma_loss(network.total_damage(log_damages, batch.levels.long()), batch.damage)
    return fit + ENTROPY_WEIGHT * F.mse_loss(log_entropy, (batch.entropy + 0.1).log())


def gamma_loss(predicted: Tensor, damage: Tensor) -> Tensor:
    """Return the mean of ``y / m + log m``, minimal where m is the conditional mean of y."""
    return (damage.clamp(*DAMAGE_RANGE) / predicted + predicted.log()).mean()


def batches_of_epoch(num_episodes: int, seed: int, epoch: int) -> list[Tensor]:
    """Return the episode numbers of each batch of an epoch, in seeded order."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return list(torch.randperm(num_episodes, generator=generator).split(EPISODES_PER_BATCH))


def learning_rate_at(step: int, num_steps: int, config: WarmStartConfig) -> float:
    """Return the learning rate: linear warm-up, then a half cosine to zero."""
    rise = min(1.0, (step + 1) / min(WARM_UP_STEPS, max(1.0, WARM_UP_FRACTION * num_steps)))
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / max(1, num_steps)))
