"""Two ended runs side by side: where their texts part, and what the dense model thinks of each."""

from __future__ import annotations

import functools
from typing import Any

from app.formats.plain_json import finite
from app.host.errors import AppError
from app.model.compute import Workbench
from app.runs.pairs import align_tokens
from app.runs.prompt import prompt_of_run
from app.web.services import Services
from sol_core.errors import SolError

__all__ = ["compare_pair"]


def compare_pair(services: Services, owner: str, run_ids: tuple[str, str]) -> dict[str, Any]:
    """Compare two runs by what the page cannot know from their own rows.

    Returns: as ``align_tokens``, and "sides" [{"nll" per token under the dense model, or None and
        a "problem"}].
    Raises: as ``GenerationRuns.ended``; AppError while the model is busy, or beyond a limit.
    """
    # Reading and aligning long runs is work too: the place in line bounds how often it is done.
    with services.runs.line.held(owner) as place:
        views = [services.runs.ended(owner, run_id) for run_id in run_ids]
        rows = [services.runs.all_rows(owner, view) for view in views]
        ids = [[row["id"] for row in side] for side in rows]
        answer = align_tokens(*ids, same_prompt=_asked(views[0]) == _asked(views[1]))
        runs = [(view["run"], view["prefill"]) for view in views]
        question = functools.partial(_both, runs=runs, ids=ids)
        answer["sides"] = services.runs.ask(place, question)
    return answer


_Run = tuple[dict[str, Any], dict[str, Any] | None]  # what a poll says of it, and of its prefill


def _both(bench: Workbench, runs: list[_Run], ids: list[list[int]]) -> list[dict[str, Any]]:
    return [_dense(bench.model, run, side) for run, side in zip(runs, ids, strict=True)]


def _asked(view: dict[str, Any]) -> tuple[str, bool]:
    run = view["run"]
    return run["prompt"], bool(run["config"].get("chat"))


def _dense(model: Any, run: _Run, ids: list[int]) -> dict[str, Any]:
    """One side under the dense model; a side that cannot be scored says why."""
    from sol_core.comparing.scoring import dense_nll

    if not ids:
        return {"nll": None, "problem": "Nothing was generated."}
    try:
        prompt = prompt_of_run(model, *run)
        nll = dense_nll(model, [*prompt, *ids], len(prompt))
    except (SolError, AppError) as error:
        return {"nll": None, "problem": str(error)}
    return {"nll": [finite(value) for value in nll], "problem": None}
