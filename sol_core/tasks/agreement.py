"""Greedy agreement: what a schedule writes by itself, token for token against dense.

Every row goes on from its own most probable tokens, so one that leaves the dense model's path
stays off it. An end of text does not end a row. Caches are not refreshed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from sol_core.actions import AXES
from sol_core.comparing.rollout import Floats
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions, DecodeStep, Windows, decode
from sol_core.decoding.step_bytes import StepBytes
from sol_core.tasks.encoding import Continuation
from sol_core.tasks.scoring import (
    BatchScores,
    ReadContexts,
    step_spends,
)

AGREEMENT_STEPS = 128


def to_go_on(prompts: Sequence[Continuation], steps: int = AGREEMENT_STEPS) -> list[Continuation]:
    """The same prompts with places for the tokens that will be generated."""
    return [replace(one, context=one.context + one.tokens, tokens=(0,) * steps) for one in prompts]


@torch.no_grad()
def write_after(
    contexts: ReadContexts,
    numbers: Sequence[int],
    scheduler: BatchScheduler,
    *,
    group: int,
    steps: int,
    episode_steps: int,
) -> BatchScores:
    """Let rows write ``steps`` tokens greedily after contexts that have been read.

    Args:
        numbers: of the continuations whose contexts, and tokens that are not scored, come before.
        scheduler: of ``group`` rows for each of them.
    Returns: tokens, and what all steps spent and read, of ``len(numbers)`` continuations.
    """
    # A row is a sequence of its own here: rows of one prompt part ways.
    rows = [number for number in numbers for _ in range(group)]
    before = contexts.windows
    sources, lengths = before.sources, before.lengths
    windows = Windows(
        before.prefix, tuple(sources[row] for row in rows), tuple(lengths[row] for row in rows)
    )
    ones = [contexts.ones[row] for row in rows]
    leads = [one.tokens[: one.read] for one in ones]
    most = steps + max(map(len, leads))
    options = DecodeOptions(most, contexts.grid.mechanisms, episode_steps=episode_steps)
    shape, step_bytes = (len(numbers), group), StepBytes(CostModel.of(contexts.lm, contexts.grid))
    chosen, num_bytes = np.zeros((len(rows), most)), np.zeros(shape)
    spend = np.zeros((*shape, len(AXES)))

    def written(step: DecodeStep) -> list[int]:
        at = step.index
        pairs = zip(leads, chosen[:, at], strict=True)
        return [lead[at] if at < len(lead) else int(token) for lead, token in pairs]

    first = [one.context[-1] for one in ones]
    state = contexts.state.rows(rows)
    for step in decode(contexts.lm, windows, first, scheduler, written, options, state):
        chosen[:, step.index] = step.log_probabilities.argmax(-1).cpu().numpy()
        step_spend, reading = step_spends(step, step_bytes, group, contexts.policies)
        spend += step_spend
        num_bytes += reading
    pairs = zip(leads, chosen, strict=True)
    tokens = np.stack([row[len(lead) :][:steps] for lead, row in pairs])
    tokens = tokens.reshape(*shape, steps)
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
