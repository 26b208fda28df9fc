"""Python calls of the Learn page. Each handler takes the services and one JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.lessons.experiments import MOST_PICKS
from app.lessons.rooms import CODE_LENGTH
from app.lessons.texts import BEGINNINGS
from app.web.calls import Request, by_name, field, owner_of
from app.web.component import Page
from app.web.services import Services


def ask_experiment(services: Services, request: Request) -> dict[str, Any]:
    """A lesson's experiment: its result, or how many come first; see ``ExperimentDesk.ask``."""
    owner = owner_of(request)
    name, parameters = field(request, "experiment", str), field(request, "parameters", dict)
    answer = services.experiments.ask(owner, name, parameters)
    if answer["state"] == "loading":
        answer["model"] = asdict(services.loader.status())
    return answer


def open_room(services: Services, request: Request) -> dict[str, Any]:
    """Ask a class a lesson's question, in the visitor's own room; see ``RoomDesk.open``."""
    return services.rooms.open(owner_of(request), field(request, "lesson", str))


def watch_room(services: Services, request: Request) -> dict[str, Any]:
    """The visitor's own room, with its guesses counted."""
    return services.rooms.watch(owner_of(request))


def close_room(services: Services, request: Request) -> dict[str, Any]:
    """Close the visitor's own room."""
    services.rooms.close(owner_of(request))
    return {}


def enter_room(services: Services, request: Request) -> dict[str, Any]:
    """A room by its code, as somebody sees it who guesses there."""
    return services.rooms.enter(owner_of(request), field(request, "code", str))


def guess_in_room(services: Services, request: Request) -> dict[str, Any]:
    """Count the visitor's guess at the question of a room."""
    owner, code = owner_of(request), field(request, "code", str)
    lesson, guess = field(request, "lesson", str), field(request, "choice", int)
    return services.rooms.guess(owner, code, lesson, guess)


def _constants(services: Services) -> dict[str, Any]:
    return {"beginnings": BEGINNINGS, "mostPicks": MOST_PICKS, "codeLength": CODE_LENGTH}


HANDLERS = by_name(ask_experiment, open_room, watch_room, close_room, enter_room, guess_in_room)
PAGE = Page("learn", "Learn", HANDLERS, _constants)
