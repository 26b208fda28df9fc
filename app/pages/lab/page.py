"""The Lab's page: the calls and constants of its four views."""

from __future__ import annotations

from typing import Any

from app.pages.lab.jobs import LAB_JOBS
from app.pages.policies.handlers import PAGE as POLICIES
from app.web.component import Page
from app.web.services import Services

VIEWS = (*(job.page() for job in LAB_JOBS.values()), POLICIES)


def _constants(services: Services) -> dict[str, Any]:
    return {view.name: view.constants(services) for view in VIEWS}


PAGE = Page(
    "lab", "Lab", {name: call for view in VIEWS for name, call in view.handlers.items()}, _constants
)
