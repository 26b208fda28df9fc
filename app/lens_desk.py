"""The counterfactual lens for the pages: a run's id in, plain records out.

What a run did comes from the same polls that the page reads, so whoever may see a run may
look into it. Torch is imported with the first look, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from app.generation_runs import GenerationRuns
from app.run_prompt import prompt_of_run
from app.views import page_lens, page_lens_row
from sol_core.actions import Action
from sol_core.config import GenerationConfig, config_from_dict

if TYPE_CHECKING:
    from sol_core.lens import Lens

__all__ = ["LensDesk"]

AnswerT = TypeVar("AnswerT")


class LensDesk:
    """Looks into runs, one at a time on the model; keeps the lens of the run last looked into."""

    def __init__(self, runs: GenerationRuns) -> None:
        self._runs = runs
        self._kept: tuple[str, Any, Lens] | None = None  # run id, model, lens

    def look(self, owner: str, run_id: str, index: int) -> dict[str, Any]:
        """One token under every level of every axis; see ``views.page_lens``.

        Raises: AppError for a run that goes on, or that another model made; SolError.
        """
        return self._ask(owner, run_id, lambda lens: page_lens(lens.look(index).to_dict()))

    def plane(self, owner: str, run_id: str, index: int, bit_width: int) -> dict[str, Any]:
        """The joint grid of attention and channels at one bit width, rows as in ``look``.

        Raises: as ``look``.
        """

        def rows(lens: Lens) -> dict[str, Any]:
            plane = lens.plane(index, bit_width)
            return {"rows": [[page_lens_row(row.to_dict()) for row in line] for line in plane]}

        return self._ask(owner, run_id, rows)

    def _ask(self, owner: str, run_id: str, ask: Callable[[Lens], AnswerT]) -> AnswerT:
        # Refuses, before it waits, what this visitor may not see.
        view = self._runs.ended(owner, run_id)
        return self._runs.with_model(
            owner, lambda model: ask(self._lens(model, owner, run_id, view))
        )

    def _lens(self, model: Any, owner: str, run_id: str, view: dict[str, Any]) -> Lens:
        if self._kept is not None and self._kept[0] == run_id and self._kept[1] is model:
            return self._kept[2]
        self._kept = None  # the old cache goes before the new one is made
        rows = self._runs.all_rows(owner, view)
        lens = _make_lens(model, view["run"], view["prefill"], rows)
        self._kept = (run_id, model, lens)
        return lens


def _make_lens(
    model: Any, run: dict[str, Any], prefill: dict[str, Any] | None, rows: list[dict[str, Any]]
) -> Lens:
    from sol_core.lens import Lens, LensRun

    config = config_from_dict(GenerationConfig, run["config"])
    prompt = prompt_of_run(model, run, prefill)
    actions = tuple(Action(keep, ratio, int(bits)) for keep, ratio, bits in (r["a"] for r in rows))
    tokens = (*prompt, *(row["id"] for row in rows))
    refresh = config.episode_steps if config.refresh else None
    return Lens(model, LensRun(tokens, actions, config.grid, refresh))
