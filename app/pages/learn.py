"""Python calls of the Learn page. Each handler takes the services and one JSON object."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app import lessons
from app.lessons.experiments import PAINTED
from app.web.calls import Page, Request, by_name, field, owner_of
from app.web.services import Services


def ask_experiment(services: Services, request: Request) -> dict[str, Any]:
    """A lesson's experiment: its result, or how many come first; see ``ExperimentQueue.ask``."""
    owner = owner_of(request)
    name, parameters = field(request, "experiment", str), field(request, "parameters", dict)
    answer = services.experiments.ask(owner, name, parameters)
    if answer["state"] == "loading":
        answer["model"] = asdict(services.loader.status())
    return answer


_TEXTS = json.loads(Path(lessons.__file__).with_name("lessons.json").read_text("utf-8"))
PAGE = Page(
    "learn",
    "Learn",
    by_name(ask_experiment),
    lambda services: {"painted": PAINTED, "lessons": _TEXTS},
)
