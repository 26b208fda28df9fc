"""Python calls of the Compare page. Each handler takes the services and one JSON object."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

from app.challenges.desk import (
    DEFAULT_BUDGET,
    DEFAULT_STEPS,
    MAX_STEPS,
    MIN_STEPS,
    ChallengeRequest,
)
from app.challenges.texts import DAILY, TEXTS
from app.pages.compare.views import attempt_view, board_view, challenge_view
from app.pages.explore.examples import EXAMPLES
from app.pages.explore.form import DEFAULT_FORM, checked_prompt, config_from_form
from app.pages.explore.handlers import HANDLERS as EXPLORE_HANDLERS
from app.pages.history.handlers import HANDLERS as HISTORY_HANDLERS
from app.pages.shared.pair_comparison import compare_pair
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.web.calls import Request, RequestError, by_name, field, owner_of
from app.web.component import Page
from app.web.services import Services
from sol_core.actions import AXES, Action, Budget
from storage import ChallengeRecord

MAX_NAME = 40  # characters
BOARD_LENGTH = 20


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


def set_up_challenge(services: Services, request: Request) -> dict[str, Any]:
    """The challenge of a text, made when it is new: the policy plays first."""
    owner = owner_of(request)
    wanted = ChallengeRequest(
        text=checked_prompt(field(request, "text", str)),
        steps=field(request, "steps", int),
        policy=field(request, "policy", str),
        budget=Budget(*_numbers(field(request, "budget", list))),
    )
    challenge = services.challenges.set_up(owner, wanted)
    return challenge_view(challenge, _board(services, challenge, owner))


def open_challenge(services: Services, request: Request) -> dict[str, Any]:
    """A challenge by its id, from the database."""
    owner, challenge_id = owner_of(request), field(request, "challenge", str)
    challenge = services.store.challenges.get(challenge_id)
    return challenge_view(challenge, _board(services, challenge, owner))


def score_attempt(services: Services, request: Request) -> dict[str, Any]:
    """Score a painted schedule beside the others and put it on the scoreboard."""
    owner, challenge_id = owner_of(request), field(request, "challenge", str)
    name = " ".join(checked_prompt(field(request, "name", str)).split())[:MAX_NAME]
    schedule = [Action.of(_numbers(step)) for step in field(request, "actions", list)]
    challenge = services.store.challenges.get(challenge_id)
    attempt = services.challenges.attempt(owner, challenge, schedule, name)
    return attempt_view(attempt, _board(services, challenge, owner))


def delete_attempt(services: Services, request: Request) -> dict[str, Any]:
    """Take an attempt off its scoreboard; on a shared server only the visitor's own."""
    owner, challenge_id = owner_of(request), field(request, "challenge", str)
    only = owner if services.is_shared else None
    services.store.challenges.delete_attempt(field(request, "id", int), only)
    challenge = services.store.challenges.get(challenge_id)
    return {"board": _board(services, challenge, owner)}


def _board(services: Services, challenge: ChallengeRecord, owner: str) -> list[dict[str, Any]]:
    attempts = services.store.challenges.best(challenge.id, BOARD_LENGTH)
    return board_view(challenge, attempts, owner, all_mine=not services.is_shared)


def _numbers(values: Any) -> list[float]:
    def is_number(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value)

    fits = isinstance(values, list) and len(values) == len(AXES)
    if not fits or not all(map(is_number, values)):
        names = ", ".join(axis.name.lower() for axis in AXES)
        raise RequestError(f"an action is a number per axis: {names}")
    return [float(value) for value in values]


_BORROWED = {
    name: (EXPLORE_HANDLERS | HISTORY_HANDLERS)[name]
    for name in ("poll_run", "stop_run", "list_policies", "list_runs")
}
HANDLERS = _BORROWED | by_name(
    start_pair,
    compare_runs,
    set_up_challenge,
    open_challenge,
    score_attempt,
    delete_attempt,
)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": DEFAULT_FORM
        | {"max_new_tokens": min(DEFAULT_FORM["max_new_tokens"], services.limits.new_tokens)},
        "examples": EXAMPLES,
        "texts": TEXTS,
        "daily": DAILY,
        "defaultSteps": DEFAULT_STEPS,
        "defaultBudget": DEFAULT_BUDGET.as_tuple(),
        "steps": [MIN_STEPS, MAX_STEPS],
        "maxName": MAX_NAME,
        "maxNewTokens": services.limits.new_tokens,
    }


PAGE = Page("compare", "Compare", HANDLERS | EXPORT_HANDLERS, _constants)
