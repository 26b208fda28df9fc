"""Measures the tables that budgets of bytes rest on, for a model that has none of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from sol_core.actions import ActionGrid
from sol_core.budgets.tables import has_own_damage, measured_name
from sol_core.calibration.head_directions import measure_directions
from sol_core.calibration.page_floors import (
    builtin_texts,
    joined_texts,
    measure_page_floors,
)
from sol_core.comparing.damage import measure_damage, text_len
from sol_core.corpus.names import PAPERS
from sol_core.models.loading import LanguageModel
from sol_core.models.measured import MeasuredTables, read_tables, write_tables
from sol_core.progress import WorkEvent, WorkProgress, WorkStopped

TEXTS = 4  # of papers, joined to the longest context
MESSAGE = "measuring the model"


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
        keeps: write them; of several processes one does.
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
