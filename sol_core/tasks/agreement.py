"""Greedy agreement: what a schedule writes by itself, token for token against dense.

Every row goes on from its own most probable tokens, so one that leaves the dense model's path
stays off it. An end of text does not end a row. Caches are not refreshed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from sol_core.actions import AXES, ActionGrid
from sol_core.comparing.rollout import Floats
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, DecodeStep, Windows, decode
from sol_core.models import FrozenLM
from sol_core.tasks.encoding import Continuation
from sol_core.tasks.scoring import (
    BatchScores,
    ReadContexts,
    StepBytes,
    read_contexts,
    step_spends,
)

AGREEMENT_STEPS = 128


def to_go_on(prompts: Sequence[Continuation], steps: int = AGREEMENT_STEPS) -> list[Continuation]:
    """The same prompts with places for the tokens that will be generated."""
    return [replace(one, context=one.context + one.tokens, tokens=(0,) * steps) for one in prompts]


def free_run(
    lm: FrozenLM,
    ones: Sequence[Continuation],
    scheduler: BatchScheduler,
    grid: ActionGrid,
    *,
    group: int,
    episode_steps: int,
) -> BatchScores:
    """Let every row write as many tokens as its continuation has, greedily.

    Args: as ``score_continuations``; all continuations have the same number of tokens.
    """
    read = read_contexts(lm, ones, grid, observe=scheduler.observes)
    options = DecodeOptions(len(ones[0].tokens), grid.mechanisms, episode_steps=episode_steps)
    return write_after(read, range(len(ones)), scheduler, options, group=group)


@torch.no_grad()
def write_after(
    contexts: ReadContexts,
    numbers: Sequence[int],
    scheduler: BatchScheduler,
    options: DecodeOptions,
    *,
    group: int,
) -> BatchScores:
    """Let rows write greedily after contexts that have been read.

    Args:
        numbers: of the continuations whose contexts are gone on from.
        scheduler: of ``group`` rows for each of them.
        options: of rows that are sequences of their own.
    Returns: scores of ``len(numbers)`` continuations, tokens among them.
    """
    # A row is a sequence of its own here: rows of one prompt part ways.
    rows = [number for number in numbers for _ in range(group)]
    before = contexts.windows
    windows = Windows(
        before.prefix,
        tuple(before.sources[row] for row in rows),
        tuple(before.lengths[row] for row in rows),
    )
    shape, step_bytes = (len(numbers), group), StepBytes(contexts.lm, contexts.grid)
    tokens, num_bytes = np.zeros((*shape, options.max_steps)), np.zeros(shape)
    spend = np.zeros((*shape, len(AXES)))

    def written(step: DecodeStep) -> list[int]:
        return [int(token) for token in tokens[..., step.index].flat]

    first = [contexts.ones[row].context[-1] for row in rows]
    state = contexts.state.rows(rows)
    for step in decode(contexts.lm, windows, first, scheduler, written, options, state):
        tokens[..., step.index] = step.log_probabilities.argmax(-1).cpu().numpy().reshape(shape)
        step_spend, reading = step_spends(step, step_bytes, group)
        spend += step_spend
        num_bytes += reading
    return BatchScores(np.zeros(shape), np.zeros(shape), spend, num_bytes, tokens)


def share_equal(tokens: Floats, dense: Floats) -> Floats:
    """[N] share of places with the dense model's token; both [N, T]."""
    shares: Floats = (tokens == dense).mean(-1)
    return shares


def steps_until_divergence(tokens: Floats, dense: Floats) -> Floats:
    """[N] tokens before the first that is not the dense model's; T without one."""
    differs = tokens != dense
    first = np.where(differs.any(-1), differs.argmax(-1), tokens.shape[-1])
    found: Floats = first.astype(np.float64)
    return found
