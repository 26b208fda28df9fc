"""Lays out the Accuracy tab: one component with the form, the result on show and the list."""

from __future__ import annotations

from typing import Any

from app.pages.accuracy.form import DEFAULT_FORM
from app.pages.accuracy.handlers import HANDLERS
from app.pages.accuracy.view import TASK_LABELS, TASK_MEANINGS
from app.web.component import Page
from app.web.services import Services


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": DEFAULT_FORM,
        "tasks": [
            {"name": name, "label": label, "meaning": TASK_MEANINGS[name]}
            for name, label in TASK_LABELS.items()
        ],
    }


PAGE = Page("accuracy", "Accuracy", HANDLERS, _constants)
