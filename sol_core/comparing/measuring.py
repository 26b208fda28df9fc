"""Measures the tables that budgets of bytes rest on, for a model that has none of its own.

A level's damage is the mean KL to the dense row, of the level alone, on teacher-forced steps after
a dense prefix. Keys and values of compressed steps stay in the cache, as they do when a text is
generated.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from sol_core.actions import DENSE, Action, ActionGrid
from sol_core.budgets import DamageTable
from sol_core.budgets.mixes import has_own_damage, measured_name
from sol_core.calibration.measures import (
    LEVELS,
    builtin_texts,
    joined_texts,
    measure_directions,
    measure_page_floors,
)
from sol_core.comparing.rollout import Prefix, roll_out
from sol_core.corpus.documents import PAPERS
from sol_core.decoding.batch_scheduling import RowSchedulers
from sol_core.decoding.loop import DecodeOptions, PrefixState, Windows
from sol_core.decoding.schedules import FixedScheduler
from sol_core.errors import ConfigError
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.loading import LanguageModel
from sol_core.models.measured import MeasuredTables, read_tables, write_tables
from sol_core.progress import WorkEvent, WorkProgress, WorkStopped

STEPS = 16  # of a window, as many as an episode has
WINDOWS = 4  # of a context and text, one behind another
CONTEXTS = (64, 256, 1024, 2048, 4096, 8064)
TEXTS = 4  # of papers, joined to the longest context
MESSAGE = "measuring the model"


def measure_damage(
    lm: FrozenLM,
    texts: Iterator[Sequence[int]],
    grid: ActionGrid,
    *,
    count: int,
) -> Generator[float, None, DamageTable]:
    """Measure a model's table.

    Args:
        texts: token ids, each of at least ``text_len()``.
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


def measured_first(
    model: LanguageModel,
    grid: ActionGrid,
    data_dir: Path,
    should_stop: Callable[[], bool],
    *,
    keeps: bool = True,
) -> Iterator[WorkEvent]:
    """Measure a model's page floors and the damage of a grid's levels, unless that was done.

    Only of grids that read pages by need: of the others the default model's serve.

    Args:
        data_dir: where the tables are kept, and the texts.
    Yields: WorkProgress; WorkStopped where ``should_stop`` was obeyed, and nothing was measured.
    Raises: CorpusError, DownloadError, OSError.
    """
    if grid.page_budget != "need" or has_own_damage(model, grid):
        return
    lm, name = model.lm, measured_name(grid)
    known = read_tables(data_dir, model.fingerprint)
    lm.page_thresholds = known.floors
    model.damage.update(known.damage)
    if name in known.damage:
        return
    yield WorkProgress(0.0, MESSAGE)
    texts = builtin_texts(model, data_dir)
    if lm.page_thresholds is None:
        lm.page_thresholds = measure_page_floors(model, texts)
    length = min(text_len(), model.context_length + 1)
    papers = list(islice(joined_texts(model, PAPERS, data_dir, length), TEXTS))
    if lm.head_directions is None:
        lm.head_directions = measure_directions(lm, (*texts, *papers))
    measuring = measure_damage(lm, iter(papers), grid, count=TEXTS)
    while True:
        try:
            yield WorkProgress(next(measuring), MESSAGE)
        except StopIteration as end:
            model.damage[name] = end.value.to_dict()
            break
        if should_stop():
            yield WorkStopped()
            return
    if keeps:
        tables = MeasuredTables(lm.page_thresholds, model.damage, lm.head_directions)
        write_tables(data_dir, model.name, model.fingerprint, tables)
