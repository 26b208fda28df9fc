"""Lays out the Compare tab: one component with two parts, a pair of runs and a challenge."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.challenges.desk import MAX_STEPS, MIN_STEPS
from app.challenges.texts import TEXTS
from app.pages.compare.handlers import HANDLERS, MAX_NAME
from app.pages.explore.examples import EXAMPLES
from app.pages.explore.form import default_form
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.web.component import page_component
from app.web.services import Services

__all__ = ["build_tab"]


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    return page_component(services, "compare", _constants(services), HANDLERS | EXPORT_HANDLERS)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.policies.names(), services.limits.new_tokens),
        "examples": EXAMPLES,
        "texts": TEXTS,
        "steps": [MIN_STEPS, MAX_STEPS],
        "maxName": MAX_NAME,
        "maxNewTokens": services.limits.new_tokens,
    }
