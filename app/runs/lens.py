"""Answers of the counterfactual lens to *What if?*: a run's id in, plain records out.

What a run did comes from the engine's own records (``RecordedRun``), and anyone who may see a run
may look into it. A run is a generation, or one row of an inspection. Where the model's work is
done, the lens of the run last looked into is kept. Torch is imported with the first look.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.formats import json_safe
from app.host.errors import AppError, naming_damage
from app.model.compute import Workbench
from app.runs.generation_runs import GenerationRuns
from app.runs.recorded_run import RecordedRun
from sol_core.actions import Action, record_of
from sol_core.config import DENSE_ROW, GenerationConfig
from sol_core.fields import from_json
from sol_core.inspection.records import InspectionConfig

if TYPE_CHECKING:
    from sol_core.lens.engine import Lens

Look = Callable[..., dict[str, Any]]  # at a lens: one of the last functions here


def ask_lens(
    runs: GenerationRuns, owner: str, run_id: str, row: int | None, look: Look, *asked: Any
) -> dict[str, Any]:
    """Queue a look into a run; ``row`` is of an inspection, None of a generation."""
    # Reading a long run is work too: a queued ticket bounds how often it is done. What this
    # visitor may not see is refused before the ticket has its turn.
    with runs.model_queue.held(owner) as ticket:
        run = runs.recorded(owner, run_id, "generation" if row is None else "inspection")
        with naming_damage("This run"):
            actions, ids = _actions(run, row), tuple(run.token_ids)
        make = functools.partial(_lens_of, owner, replace(run, tokens=()), ids, actions)
        question = functools.partial(_answer, key=(run_id, row), make=make, look=look, asked=asked)
        return dict(json_safe(runs.ask(ticket, question)))


def _actions(run: RecordedRun, row: int | None) -> tuple[Action, ...]:
    """Actions of the row looked into. Raises: AppError for an unknown row."""
    steps: Sequence[dict[str, Any]] = run.tokens
    if row is not None:
        count = len(from_json(InspectionConfig, run.config).rows)
        if not 0 <= row < count:
            raise AppError(f"The inspection has rows 0 to {count - 1}, got {row}.")
        steps = [token["rows"][row] for token in run.tokens]
    return tuple(Action(**step["action"]) for step in steps)


def _answer(
    bench: Workbench,
    key: tuple[str, int | None],
    make: Callable[[Any], Lens],
    look: Look,
    asked: tuple[Any, ...],
) -> dict[str, Any]:
    """Answer a question to a run's lens; like all of the following, it may travel."""
    return look(bench.kept(key, lambda: make(bench.model)), *asked)


def levels_of(lens: Lens, index: int) -> dict[str, Any]:
    """One token under every level of every axis; the JSON form of ``LensView``."""
    return lens.look(index).to_dict()


def without_pages(lens: Lens, index: int, pages: list[int]) -> dict[str, Any]:
    """One token without some pages of the cache; the JSON form of ``PageEffect``."""
    return record_of(lens.without(index, [pages])[0])


def page_effects(lens: Lens, index: int) -> dict[str, Any]:
    """The next pages left out one at a time; the JSON form of ``PageEffects``."""
    return lens.page_effects(index).to_dict()


def _lens_of(
    owner: str, run: RecordedRun, ids: tuple[int, ...], actions: tuple[Action, ...], model: Any
) -> Lens:
    from sol_core.lens.engine import Lens
    from sol_core.lens.records import LensRun

    if run.kind == "generation":
        config, prefix = from_json(GenerationConfig, run.config), run.prompt_ids(model)
    else:
        run.check_model(model)
        config = from_json(InspectionConfig, run.config).as_generation()
        prefix = run.prefill["prefix"] if run.prefill else []
    return Lens(
        model.of_owner(owner),
        LensRun(
            (*prefix, *ids),
            actions,
            config.grid_in_use,
            shadow=DENSE_ROW in (row.name for row in config.side_rows),
            left_out=config.left_out,
        ),
    )
