"""Runs and scores teacher-forced rollouts of several schedules on the same texts.

A text may have several windows: rollouts that start at different tokens. All rows of a window share
its token path; row 0 is dense and the reference for KL. Step t of a window that starts at token s
feeds token s + t and is scored on token s + t + 1. Logits are kept for one step only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sol_core.actions import AXES
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions, DecodeStep, teacher_forced
from sol_core.decoding.prefix import PrefixState
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RolloutScores:
    """Scores of B windows × G rows × T steps; row 0 of each window is dense."""

    nll: Floats  # [B, G, T] nats
    kl: Floats  # [B, G, T] nats, KL(dense ‖ row); 0 for row 0
    spend: Floats  # [B, G, T, axes]
    num_bytes: Floats | None  # [B, G, T] computed bytes read; None if not counted


@torch.no_grad()
def roll_out(
    lm: FrozenLM,
    cache: KVCache,  # a row per schedule and window
    paths: Sequence[Sequence[int]],  # [B][T + 1], tokens to feed and, shifted by one, to score
    scheduler: BatchScheduler,
    options: DecodeOptions,
    state: PrefixState,
    costs: CostModel | None = None,  # to count the bytes read
) -> RolloutScores:
    """Run all rows of the windows and score them; the first row of each must be dense."""
    group = cache.num_rows // len(paths)
    nll, kl, spend, num_bytes = [], [], [], []
    for scored in teacher_forced(lm, cache, paths, scheduler, options, state):
        step = scored.step
        nll.append(scored.nll)
        kl.append(scored.kl)
        spend.append(step_levels(step, group))
        if costs is not None:
            num_bytes.append(step_reading(step, costs, group))
    counted = np.stack(num_bytes, -1) if num_bytes else None
    nlls, kls = (floats(torch.stack(values, -1)) for values in (nll, kl))
    return RolloutScores(nlls, kls, np.stack(spend, 2), counted)


def step_levels(step: DecodeStep, group: int) -> Floats:
    """Return the levels of a step's rows: [B, group, axes]."""
    levels = np.asarray([action.as_tuple() for action in step.actions], dtype=np.float64)
    return levels.reshape(-1, group, len(AXES))


def step_reading(step: DecodeStep, costs: CostModel, group: int, *, exact: bool = True) -> Floats:
    """Compute the bytes that a step's rows read, or that their actions allow: [B, group]."""
    if not exact:
        allowed = (read._replace(tokens=None, head_rows=None) for read in step.reads)
        step = replace(step, reads=tuple(allowed))
    reading = [step.cost(costs, row).bytes_read for row in range(len(step.actions))]
    return np.asarray(reading).reshape(-1, group)


def floats(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
