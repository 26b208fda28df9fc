"""The counterfactual lens for the pages: a run's id in, plain records out.

What a run did comes from the engine's own records (``RecordedRun``), and anyone who may see a run
may look into it. A run is a generation, or one row of an inspection. Where the model's work is
done, the lens of the run last looked into is kept. Torch is imported with the first look.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from app.formats.plain_json import json_safe
from app.host.damage import naming_damage
from app.host.errors import AppError
from app.model.compute import Workbench
from app.runs.queue import GenerationRuns
from app.runs.recorded_run import RecordedRun
from sol_core.actions import Action, record_of
from sol_core.config import GenerationConfig
from sol_core.fields import from_json
from sol_core.inspection.records import InspectionConfig

if TYPE_CHECKING:
    from sol_core.lens.engine import Lens
    from storage import RunKind

AnswerT = TypeVar("AnswerT")
_Rows = list[tuple[Action, ...]]  # actions per row, the one looked into first


class LensDesk:
    """Runs lens views, in line for the model."""

    def __init__(self, runs: GenerationRuns) -> None:
        self._runs = runs

    def look(self, owner: str, run_id: str, index: int, row: int | None = None) -> dict[str, Any]:
        """One token under every level of every axis; the JSON form of ``LensView``.

        Args:
            row: of an inspection; None for a generation.
        Raises: AppError for a run that goes on, or that another model made; SolError.
        """
        ask = functools.partial(_look, index=index)
        return dict(json_safe(self._ask(owner, run_id, row, ask)))

    def without(
        self, owner: str, run_id: str, index: int, pages: list[int], row: int | None = None
    ) -> dict[str, Any]:
        """One token without some pages of the cache; the JSON form of ``PageEffect``.

        Raises: as ``look``.
        """
        ask = functools.partial(_without, index=index, pages=pages)
        return dict(json_safe(self._ask(owner, run_id, row, ask)))

    def page_effects(
        self, owner: str, run_id: str, index: int, row: int | None = None
    ) -> dict[str, Any]:
        """The next pages left out one at a time; the JSON form of ``PageEffects``.

        Raises: as ``look``.
        """
        ask = functools.partial(_page_effects, index=index)
        return dict(json_safe(self._ask(owner, run_id, row, ask)))

    def _ask(
        self, owner: str, run_id: str, row: int | None, ask: Callable[[Lens, Any], AnswerT]
    ) -> AnswerT:
        # Reading a long run is work too: the place in line bounds how often it is done. What this
        # visitor may not see is refused before the place has its turn.
        with self._runs.line.held(owner) as place:
            run = self._runs.recorded(owner, run_id, _kind(row))
            with naming_damage("This run"):
                make = _lens_maker(run, row)
            question = functools.partial(_answer, key=(run_id, row), make=make, ask=ask)
            return self._runs.ask(place, question)


def _lens_maker(run: RecordedRun, row: int | None) -> Callable[[Any], Lens]:
    """The function of the model that makes a run's lens. Raises: AppError for an unknown row."""
    head, ids = run.without_tokens(), tuple(run.token_ids)
    if row is None:
        steps = [[token, *token["side"]] for token in run.tokens]
        return functools.partial(_lens_of_generation, head, ids, _actions(steps))
    config = from_json(InspectionConfig, run.config)
    if not 0 <= row < len(config.rows):
        raise AppError(f"The inspection has rows 0 to {len(config.rows) - 1}, got {row}.")
    actions = _actions([token["rows"] for token in run.tokens])
    if actions:
        actions.insert(0, actions.pop(row))
    return functools.partial(_lens_of_inspection, head, ids, actions)


def _answer(
    bench: Workbench,
    key: tuple[str, int | None],
    make: Callable[[Any], Lens],
    ask: Callable[[Lens, Any], AnswerT],
) -> AnswerT:
    """Answer a question to a run's lens; like all of the following, it may travel."""
    lens = bench.kept("lens", key, lambda: make(bench.model))
    return ask(lens, bench.model)


def _look(lens: Lens, model: Any, index: int) -> dict[str, Any]:
    return lens.look(index).to_dict()


def _without(lens: Lens, model: Any, index: int, pages: list[int]) -> dict[str, Any]:
    return record_of(lens.without(index, [pages])[0])


def _page_effects(lens: Lens, model: Any, index: int) -> dict[str, Any]:
    return lens.page_effects(index).to_dict()


def _kind(row: int | None) -> RunKind:
    return "generation" if row is None else "inspection"


def _lens_of_generation(run: RecordedRun, ids: tuple[int, ...], actions: _Rows, model: Any) -> Lens:
    config = from_json(GenerationConfig, run.config)
    return _lens(model, config, (*run.prompt_ids(model), *ids), actions)


def _lens_of_inspection(run: RecordedRun, ids: tuple[int, ...], actions: _Rows, model: Any) -> Lens:
    run.check_model(model)
    config = from_json(InspectionConfig, run.config)
    prefix = run.prefill["prefix"] if run.prefill else ()
    return _lens(model, config.as_generation(), (*prefix, *ids), actions)


def _lens(
    model: Any,
    config: GenerationConfig,
    tokens: tuple[int, ...],
    rows: _Rows,
) -> Lens:
    from sol_core.lens.engine import Lens
    from sol_core.lens.records import LensRun

    schedules = (config.schedule, *(row.schedule for row in config.side_rows))
    return Lens(
        model,
        LensRun(
            tokens,
            rows[0] if rows else (),
            config.grid,
            beside=tuple(rows[1:]),
            observed=any(schedule.policy for schedule in schedules),
            left_out=config.left_out,
        ),
    )


def _actions(steps: list[list[dict[str, Any]]]) -> _Rows:
    """Per row its actions, of the records of every step's rows."""
    rows = zip(*steps, strict=True)
    return [tuple(Action(**record["action"]) for record in row) for row in rows]
