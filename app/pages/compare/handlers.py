"""Python calls of the Compare page. Each handler takes the services and one JSON object."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from app.pages.explore.examples import EXAMPLES
from app.pages.explore.form import DEFAULT_FORM, checked_prompt, config_from_form
from app.pages.explore.handlers import HANDLERS as EXPLORE_HANDLERS
from app.pages.history.handlers import HANDLERS as HISTORY_HANDLERS
from app.pages.shared.pair_comparison import compare_pair
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.web.calls import Request, by_name, field, owner_of
from app.web.component import Page
from app.web.services import Services


def start_pair(services: Services, request: Request) -> dict[str, Any]:
    """Put two runs of one prompt in line, one after the other; answers with their ids."""
    owner, prompt = owner_of(request), checked_prompt(field(request, "prompt", str))
    # Both are checked before the first one starts.
    first, second = (
        config_from_form(field(request, side, dict), services.policies.resolve_name)
        for side in "ab"
    )
    run_id = services.runs.start(owner, prompt, first)
    with ExitStack() as undo:
        undo.callback(services.runs.stop, owner, run_id)
        runs = [run_id, services.runs.start(owner, prompt, second)]
        undo.pop_all()
    return {"runs": runs}


def compare_runs(services: Services, request: Request) -> dict[str, Any]:
    """Two ended runs: alignment, first divergence, and each text under the dense model."""
    run_ids = field(request, "a", str), field(request, "b", str)
    return compare_pair(services, owner_of(request), run_ids)


_BORROWED = {
    name: (EXPLORE_HANDLERS | HISTORY_HANDLERS)[name]
    for name in ("poll_run", "stop_run", "list_policies", "list_runs")
}
HANDLERS = _BORROWED | by_name(start_pair, compare_runs)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": DEFAULT_FORM
        | {"max_new_tokens": min(DEFAULT_FORM["max_new_tokens"], services.limits.new_tokens)},
        "examples": EXAMPLES,
        "maxNewTokens": services.limits.new_tokens,
    }


PAGE = Page("compare", "Compare", HANDLERS | EXPORT_HANDLERS, _constants)
