"""Measures a table of damage: every level alone, on teacher-forced steps after a dense prefix.

A level's damage is the mean KL to the dense row. Keys and values of compressed steps stay in the
cache, as they do when a text is generated.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import islice

import torch

from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.budgets import DamageTable
from sol_core.calibration.page_floors import LEVELS
from sol_core.comparing.rollout import Prefix, roll_out
from sol_core.decoding.batch_scheduling import RowSchedulers
from sol_core.decoding.loop import DecodeOptions, PrefixState, Windows
from sol_core.decoding.schedules import FixedScheduler
from sol_core.errors import ConfigError
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache

STEPS = 16  # of a window, as many as an episode has
WINDOWS = 4  # of a context and text, one behind another
CONTEXTS = (64, 256, 1024, 2048, 4096, 8064)


def measure_damage(
    lm: FrozenLM,
    texts: Iterator[Sequence[int]],
    grid: ActionGrid,
    *,
    count: int,
) -> Generator[float, None, DamageTable]:
    """Measure a model's table.

    Args:
        lm: prepared for batches meanwhile.
        texts: token ids, each of at least ``text_len()``.
        count: texts to read.
    Yields: the share of the work that is done.
    Returns: the table.
    Raises: ConfigError without a text.
    """
    room = lm.spec.max_positions - WINDOWS * STEPS
    contexts = tuple(context for context in CONTEXTS if context <= room) or (max(room, 1),)
    attention = [Action(keep_fraction=level) for level in LEVELS]
    channels = [Action(channel_keep_ratio=level) for level in grid.channel_keep_ratios[:-1]]
    sums = torch.zeros(len(contexts), len(attention) + len(channels), dtype=torch.float64)
    read = 0
    for number, text in enumerate(islice(texts, count)):
        cache = lm.new_cache(1, text_len(contexts), page_size=grid.page_size)
        done = 0
        for place, context in enumerate(contexts):
            yield (number + place / len(contexts)) / count
            ahead = context + (WINDOWS - 1) * STEPS
            lm.prepare_for_batches()
            lm.prefill(torch.tensor([text[done:ahead]], device=lm.device), cache)
            done = ahead
            sums[place] += _damage(lm, cache, text, context, [*attention, *channels], grid)
        read += 1
    if not read:
        raise ConfigError("no text to measure damage on")
    means = (sums / read).tolist()
    split = len(attention)
    return DamageTable(
        tuple(contexts),
        (*LEVELS, 1.0),
        grid.channel_keep_ratios,
        tuple((*map(_rounded, row[:split]), 0.0) for row in means),
        tuple((*map(_rounded, row[split:]), 0.0) for row in means),
        read * WINDOWS * STEPS,
    )


def text_len(contexts: Sequence[int] = CONTEXTS) -> int:
    """Tokens of a text that ``measure_damage`` reads."""
    return contexts[-1] + WINDOWS * STEPS + 1


def _damage(
    lm: FrozenLM,
    cache: KVCache,
    text: Sequence[int],
    context: int,
    actions: Sequence[Action],
    grid: ActionGrid,
) -> torch.Tensor:
    """Mean KL of each action over the windows after a context: [actions] fp64."""
    starts = tuple(context + STEPS * window for window in range(WINDOWS))
    windows = Windows(cache, (0,) * WINDOWS, starts)
    path = torch.tensor([list(text[start : start + STEPS + 1]) for start in starts])
    state = PrefixState(torch.zeros(WINDOWS, lm.spec.hidden_size, device=lm.device))
    group = 1 + len(actions)
    rows = [FixedScheduler([action]) for _ in starts for action in (DENSE, *actions)]
    options = DecodeOptions(STEPS, grid.mechanisms, rows_per_sequence=group)
    scores = roll_out(lm, Prefix(windows, state, path), RowSchedulers(rows), options)
    return torch.from_numpy(scores.kl[:, 1:].mean((0, 2)))


def _rounded(value: float) -> float:
    return float(f"{max(value, 0.0):.4g}")
