"""The Lab's page: the calls and constants of its four views."""

from __future__ import annotations

from typing import Any

from app.pages.accuracy.handlers import PAGE as ACCURACY
from app.pages.evaluate.handlers import PAGE as EVALUATE
from app.pages.policies.handlers import PAGE as POLICIES
from app.pages.train.handlers import PAGE as TRAIN
from app.web.component import Page
from app.web.services import Services

VIEWS = (TRAIN, EVALUATE, ACCURACY, POLICIES)


def _constants(services: Services) -> dict[str, Any]:
    return {view.name: view.constants(services) for view in VIEWS}


PAGE = Page(
    "lab",
    "Lab",
    {name: call for view in VIEWS for name, call in view.handlers.items()},
    _constants,
)
