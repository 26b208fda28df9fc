"""Lays out the Accuracy tab: one component with the form, the result on show and the list."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages.accuracy.form import DEFAULT_FORM
from app.pages.accuracy.handlers import HANDLERS
from app.pages.accuracy.view import TASK_LABELS, TASK_MEANINGS
from app.web.component import page_component
from app.web.services import Services

__all__ = ["build_tab"]


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    return page_component(services, "accuracy", _constants(), HANDLERS)


def _constants() -> dict[str, Any]:
    return {
        "defaults": DEFAULT_FORM,
        "tasks": [
            {"name": name, "label": label, "meaning": TASK_MEANINGS[name]}
            for name, label in TASK_LABELS.items()
        ],
    }
