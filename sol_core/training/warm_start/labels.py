"""Damage labels: the cost of random schedules, step by step.

All windows of a text are rows of one batch of the decode loop, on one dense prefill. The
label of a step is its KL to the dense step, which is free of the next token's own chance.
A label file is one text; it is written in one rename, so that a killed run loses one text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sol_core.errors import PolicyError
from sol_core.files.safetensors_files import read_safetensors, write_safetensors
from sol_core.models import FrozenLM
from sol_core.policy.info import InputLayout
from sol_core.training.config import TrainConfig
from sol_core.training.warm_start.exploration import ExplorationScheduler, draw_levels
from sol_core.training.windows import prefill_text


@dataclass(frozen=True, slots=True)
class LabelledSteps:
    """Steps of N episodes.

    Attributes:
        rows: [N, T, layout.width] fp16, see ``policy/inputs.py``.
        tokens: [N, T] int64, fed at each step.
        levels: [N, T, axes] uint8.
        damage: [N, T] fp32, KL to the dense step, nats.
        entropy: [N, T] fp32, of the dense step.
    """

    rows: Tensor
    tokens: Tensor
    levels: Tensor
    damage: Tensor
    entropy: Tensor

    def take(self, index: Tensor) -> LabelledSteps:
        """Some of the episodes."""
        return LabelledSteps(
            self.rows[index],
            self.tokens[index],
            self.levels[index],
            self.damage[index],
            self.entropy[index],
        )

    def to(self, device: torch.device) -> LabelledSteps:
        """The same on another device."""
        return LabelledSteps(
            self.rows.to(device),
            self.tokens.to(device),
            self.levels.to(device),
            self.damage.to(device),
            self.entropy.to(device),
        )


def label_text(
    lm: FrozenLM, tokens: Sequence[int], config: TrainConfig, generator: torch.Generator
) -> LabelledSteps:
    """Label every step of every window of one text.

    Args:
        tokens: ``config.block_len`` token ids.
    """
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


def write_labels(labels: LabelledSteps, path: Path) -> None:
    """Raises: OSError when the disk is full; nothing is then left at ``path``."""
    staging = path.with_suffix(".part")
    names = ("rows", "tokens", "levels", "damage", "entropy")
    try:
        write_safetensors({name: getattr(labels, name).contiguous() for name in names}, staging)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def read_labels(path: Path) -> LabelledSteps:
    """Raises: PolicyError for a file that is missing or damaged."""
    try:
        return LabelledSteps(**read_safetensors(path, "pt")[1])
    except (OSError, ValueError, TypeError) as error:
        raise PolicyError(
            f"the labels {path} are missing or damaged ({error}): start the training anew"
        ) from error


def join_labels(parts: Sequence[LabelledSteps]) -> LabelledSteps:
    return LabelledSteps(
        torch.cat([part.rows for part in parts]),
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.levels for part in parts]),
        torch.cat([part.damage for part in parts]),
        torch.cat([part.entropy for part in parts]),
    )
