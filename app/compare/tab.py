"""Lays out the Compare tab: one component with two parts, a pair of runs and a challenge."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.challenge_desk import MAX_STEPS, MIN_STEPS
from app.compare.handlers import HANDLERS, MAX_NAME
from app.compare.texts import TEXTS
from app.explore.examples import EXAMPLES
from app.explore.settings import default_settings
from app.page_component import page_component
from app.services import Services
from app.sharing.handlers import EXPORT_HANDLERS

__all__ = ["build_tab"]


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    return page_component(services, "compare", _constants(services), HANDLERS | EXPORT_HANDLERS)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_settings(services.policies.names(), services.limits.new_tokens),
        "examples": EXAMPLES,
        "texts": TEXTS,
        "steps": [MIN_STEPS, MAX_STEPS],
        "maxName": MAX_NAME,
        "maxNewTokens": services.limits.new_tokens,
    }
