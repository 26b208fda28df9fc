"""Two ended runs side by side: where their texts part, and what the dense model thinks of each."""

from __future__ import annotations

import functools
from typing import Any

from app.formats.plain_json import json_safe
from app.host.damage import naming_damage
from app.host.errors import AppError
from app.model.compute import Workbench
from app.runs.recorded_run import RecordedRun
from app.sharing.comparison import align_tokens
from app.web.services import Services
from sol_core.errors import SolError


def compare_pair(services: Services, owner: str, run_ids: tuple[str, str]) -> dict[str, Any]:
    """Compare two runs by what the page cannot know from their own tokens.

    Returns: as ``align_tokens``, and "sides" [{"nll" per token under the dense model, or None and a
    "problem"}]. Raises: as ``GenerationRuns.recorded``; AppError while the model is busy.
    """
    # Reading and aligning long runs is work too: the place in line bounds how often it is done.
    with services.runs.line.held(owner) as place:
        first, second = (services.runs.recorded(owner, run_id) for run_id in run_ids)
        same = first.asked == second.asked
        with naming_damage("One of these runs"):
            answer = align_tokens(first.token_ids, second.token_ids, same_prompt=same)
            sides = [(run.without_tokens(), run.token_ids) for run in (first, second)]
        answer["sides"] = services.runs.ask(place, functools.partial(_both, sides=sides))
    return answer


_Side = tuple[RecordedRun, list[int]]  # what is known of a run, and the ids of its tokens


def _both(bench: Workbench, sides: list[_Side]) -> list[dict[str, Any]]:
    return [_dense(bench.model, run, ids) for run, ids in sides]


def _dense(model: Any, run: RecordedRun, ids: list[int]) -> dict[str, Any]:
    """One side under the dense model; a side that cannot be scored says why."""
    from sol_core.comparing.scoring import dense_nll

    if not ids:
        return {"nll": None, "problem": "Nothing was generated."}
    try:
        prompt = run.prompt_ids(model)
        nll = dense_nll(model, [*prompt, *ids], len(prompt))
    except (SolError, AppError) as error:
        return {"nll": None, "problem": str(error)}
    return {"nll": json_safe(nll), "problem": None}
