"""What a schedule writes by itself after a text that has been read: its most probable tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sol_core.comparing.rollout import Floats
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, DecodeStep, Windows, decode
from sol_core.tasks.scoring import ReadContexts


@torch.no_grad()
def write_after(
    contexts: ReadContexts,
    numbers: Sequence[int],
    scheduler: BatchScheduler,
    *,
    group: int,
    steps: int,
) -> Floats:
    """Let rows write ``steps`` tokens greedily after contexts that have been read.

    Args:
        numbers: of the continuations whose contexts come before.
        scheduler: of ``group`` rows for each of them.
    Returns: token ids [len(numbers), group, steps]. An end of text does not end a row.
    """
    # A row is a sequence of its own here: rows of one prompt part ways.
    rows = [number for number in numbers for _ in range(group)]
    before = contexts.windows
    sources, lengths = before.sources, before.lengths
    windows = Windows(
        before.prefix, tuple(sources[row] for row in rows), tuple(lengths[row] for row in rows)
    )
    options = DecodeOptions(steps, contexts.grid.mechanisms)
    chosen = np.zeros((len(rows), steps))

    def written(step: DecodeStep) -> list[int]:
        return [int(token) for token in chosen[:, step.index]]

    first = [contexts.ones[row].context[-1] for row in rows]
    state = contexts.state.rows(rows)
    for step in decode(contexts.lm, windows, first, scheduler, written, options, state):
        chosen[:, step.index] = step.log_probabilities.argmax(-1).cpu().numpy()
    return chosen.reshape(len(numbers), group, steps)
