"""Measures a model's tables: page floors, head directions, damage.

Around each context of a dense pass, pages are weighed from 4-bit keys as in a decode step. A
level's floor is the need that this fraction of all layers' pages reaches. A level's damage is the
mean KL of teacher-forced steps at that level alone; their keys and values stay in the cache.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from kernels.page_attention import KVBlock, page_need
from sol_core.actions import DEFAULT_GRID, DENSE, GRIDS, Action, ActionGrid
from sol_core.budgets.mixes import DamageTable, has_own_damage, mechanisms_name
from sol_core.corpus.documents import BUILTIN, PAPERS
from sol_core.corpus.load import load_corpus
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.loop import DecodeOptions
from sol_core.decoding.prefix import PrefixState
from sol_core.errors import ConfigError, SolError
from sol_core.evaluation.rollout import roll_out
from sol_core.model_tables.tables import MeasuredTables, PageThresholds, read_tables, write_tables
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.loading import LanguageModel
from sol_core.models.signals import text_fractions
from sol_core.progress import WorkEvent, WorkProgress, WorkStopped, no_stop

logger = logging.getLogger(__name__)
FLOOR_CONTEXTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
# Finer than the grids at the lower end.
LEVELS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FLOOR_TEXTS = 2  # of the longest context; each serves all shorter ones
TOKENS = 48  # sampled around each context, per text
_DIGITS = 3
_PREFILL = 512  # tokens per pass
NUM_DIRECTIONS = 32  # one block of the preview's channels
_FIRST_TOKENS = 16  # skipped, because a text's first tokens have unusual states
STEPS = 16  # per window, as in an episode
WINDOWS = 4  # consecutive, per context and text
CONTEXTS = (64, 256, 1024, 2048, 4096, 8064)
TEXTS = 4  # papers, joined to the longest context
MESSAGE = "measuring the model"


def joined_texts(
    model: LanguageModel, source: str, data_dir: Path, length: int
) -> Iterator[list[int]]:
    """Yield texts of ``length`` tokens, joined from a corpus' training documents."""
    documents = iter(load_corpus(source, data_dir=data_dir, split="train").shuffled(0))
    while True:
        text: list[int] = []
        while len(text) < length:
            text += model.encode(next(documents) + "\n\n", add_special_tokens=not text)
        yield text[:length]


def measure_page_floors(model: LanguageModel, texts: Sequence[Sequence[int]]) -> PageThresholds:
    """Measure each level's page floor at every context that the texts reach."""
    longest = max((len(text) for text in texts), default=0)
    contexts = [context for context in FLOOR_CONTEXTS if context <= longest]
    if not contexts:
        raise ConfigError(f"page floors need a text of {FLOOR_CONTEXTS[0]} tokens, got {longest}")
    needs: list[list[Tensor]] = [[] for _ in contexts]
    for text in texts:
        _weigh(model.lm, text, contexts, needs)
    table = tuple(_floors(torch.cat(pages)) for pages in needs)
    return PageThresholds(model.fingerprint, tuple(contexts), LEVELS, table)


def _weigh(
    lm: FrozenLM, text: Sequence[int], contexts: Sequence[int], needs: list[list[Tensor]]
) -> None:
    """Append the needs of the pages that tokens around each context see."""
    cache = lm.new_cache(1, len(text))
    fed = torch.tensor([list(text)], device=lm.device)
    watched = [_around(context, len(text)) for context in contexts]

    def watch(
        start: int, inside: Sequence[Tensor], layer: int, query: Tensor, block: KVBlock
    ) -> None:
        for number, here in enumerate(inside):
            if not len(here):
                continue
            seen, window = query[:, :, here - start], lm.spec.windows[layer]
            attention, valid = text_fractions(seen, block, here, cache.page_size, window)
            heaviest = attention >= attention.amax(-1, keepdim=True)  # always read
            need = page_need(attention, valid).masked_fill(heaviest, torch.inf)
            needs[number].append(need[valid[:, None].expand_as(need)].cpu())

    for start in range(0, len(text), _PREFILL):
        end = min(start + _PREFILL, len(text))
        inside = [tokens[(tokens >= start) & (tokens < end)] for tokens in watched]
        watching = partial(watch, start, inside) if any(map(len, inside)) else None
        lm.prefill(fed[:, start:end], cache, watch=watching)


def _around(context: int, length: int) -> Tensor:
    """Return positions with about ``context`` tokens before, [n ≤ TOKENS] int64, ascending."""
    first, last = round(context / 1.1), min(round(context * 1.1), length)
    if last <= first:
        return torch.empty(0, dtype=torch.int64)
    positions: Tensor = torch.unique(torch.linspace(first - 1, last - 1, TOKENS).long())
    return positions


def _floors(needs: Tensor) -> tuple[float, ...]:
    """Return the log floors that each level's fraction of the pages reaches."""
    ranked = needs.sort(descending=True).values
    most = float(ranked[ranked.isfinite()][0]) * 1.1  # if the heaviest pages exceed a level
    floors = [ranked[max(1, round(level * len(ranked))) - 1].clamp(1e-30, most) for level in LEVELS]
    return tuple(round(math.log(floor), _DIGITS) for floor in floors)


def measure_directions(lm: FrozenLM, texts: Iterable[Sequence[int]]) -> Tensor:
    """Return the leading eigenvectors of final hidden states' second moments: [C, 32] float32."""
    moments = torch.zeros(lm.spec.hidden_size, lm.spec.hidden_size, dtype=torch.float64)
    for text in texts:
        seen = list(text[: lm.spec.max_positions])
        cache = lm.new_cache(1, len(seen))
        states = [
            lm.prefill(part, cache)[0]
            for part in torch.tensor([seen], device=lm.device).split(_PREFILL, 1)
        ]
        flat = torch.cat(states)[_FIRST_TOKENS:].double().cpu()
        moments += flat.T @ flat
    directions: Tensor = torch.linalg.eigh(moments).eigenvectors[:, -NUM_DIRECTIONS:].float()
    return directions


def measure_damage(
    lm: FrozenLM, texts: Sequence[Sequence[int]], grid: ActionGrid
) -> Iterator[float | DamageTable]:
    """Yield fractions of the work done, then the table, on texts of ``text_len()`` tokens."""
    room = lm.spec.max_positions - WINDOWS * STEPS
    contexts = tuple(context for context in CONTEXTS if context <= room) or (max(room, 1),)
    attention = [Action(keep_fraction=level) for level in LEVELS]
    channels = [Action(channel_keep_ratio=level) for level in grid.channel_keep_ratios[:-1]]
    sums = torch.zeros(len(contexts), len(attention) + len(channels), dtype=torch.float64)
    for number, text in enumerate(texts):
        cache = lm.new_cache(1, text_len(contexts), page_size=grid.page_size)
        done = 0
        for at, context in enumerate(contexts):
            yield (number + at / len(contexts)) / len(texts)
            ahead = context + (WINDOWS - 1) * STEPS
            lm.prepare_for_batches()
            lm.prefill(torch.tensor([text[done:ahead]], device=lm.device), cache, batched=True)
            done = ahead
            sums[at] += _damage(lm, cache, text, context, [*attention, *channels], grid)
    means = (sums / len(texts)).tolist()
    split = len(attention)
    yield DamageTable(
        tuple(contexts),
        (*LEVELS, 1.0),
        grid.channel_keep_ratios,
        tuple((*map(_rounded, row[:split]), 0.0) for row in means),
        tuple((*map(_rounded, row[split:]), 0.0) for row in means),
        len(texts) * WINDOWS * STEPS,
    )


def text_len(contexts: Sequence[int] = CONTEXTS) -> int:
    """Return the tokens of a text that ``measure_damage`` reads."""
    return contexts[-1] + WINDOWS * STEPS + 1


def _damage(
    lm: FrozenLM,
    cache: KVCache,
    text: Sequence[int],
    context: int,
    actions: Sequence[Action],
    grid: ActionGrid,
) -> torch.Tensor:
    """Return the mean KL of each action over the windows after a context: [actions] fp64."""
    starts = [context + STEPS * window for window in range(WINDOWS)]
    paths = [list(text[start : start + STEPS + 1]) for start in starts]
    state = PrefixState(torch.zeros(WINDOWS, lm.spec.hidden_size, device=lm.device))
    branch = cache.branch(1 + len(actions), STEPS, starts, [0] * WINDOWS)
    rows = PlannedRows([[action] for action in (DENSE, *actions)] * WINDOWS)
    options = DecodeOptions(STEPS, grid.mechanisms, batched=True)
    scores = roll_out(lm, branch, paths, rows, options, state)
    return torch.from_numpy(scores.kl[:, 1:].mean((0, 2)))


def _rounded(value: float) -> float:
    return float(f"{max(value, 0.0):.4g}")


def ensure_tables(
    model: LanguageModel, data_dir: Path, on_progress: Callable[[str, float], None]
) -> None:
    """Measure a model's tables for the default grid before its first compressed use.

    If the texts are not available, warn and use the default model's tables.
    """
    try:
        for event in measure_tables(model, GRIDS[DEFAULT_GRID], data_dir, no_stop):
            if isinstance(event, WorkProgress):
                on_progress(event.message, event.fraction)
    except SolError as error:
        logger.warning("pages and mixes are chosen as for the default model: %s", error)


def measure_tables(
    model: LanguageModel, grid: ActionGrid, data_dir: Path, should_stop: Callable[[], bool]
) -> Iterator[WorkEvent]:
    """Measure floors and damage for grids with pages by need, unless known."""
    if not grid.mechanisms.chooses_by_group or has_own_damage(model, grid):
        return
    lm, name = model.lm, mechanisms_name(grid)
    known = read_tables(data_dir, model.fingerprint)
    lm.page_thresholds = known.floors
    model.damage.update(known.damage)
    if name in known.damage:
        return
    yield WorkProgress(0.0, MESSAGE)
    length = min(FLOOR_CONTEXTS[-1], model.context_length)
    texts = list(islice(joined_texts(model, BUILTIN, data_dir, length), FLOOR_TEXTS))
    if lm.page_thresholds is None:
        lm.page_thresholds = measure_page_floors(model, texts)
    length = min(text_len(), model.context_length + 1)
    papers = list(islice(joined_texts(model, PAPERS, data_dir, length), TEXTS))
    if lm.head_directions is None:
        lm.head_directions = measure_directions(lm, (*texts, *papers))
    for made in measure_damage(lm, papers, grid):
        if isinstance(made, DamageTable):
            model.damage[name] = asdict(made)
            break
        yield WorkProgress(made, MESSAGE)
        if should_stop():
            yield WorkStopped()
            return
    tables = MeasuredTables(lm.page_thresholds, model.damage, lm.head_directions)
    write_tables(data_dir, model.name, model.fingerprint, tables)
