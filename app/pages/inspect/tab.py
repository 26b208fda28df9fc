"""Lays out the Inspect tab: one component that draws itself and polls for scored tokens."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages.inspect.form import MAX_TOKENS, default_form
from app.pages.inspect.handlers import HANDLERS
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.web.component import page_component
from app.web.services import Services

__all__ = ["build_tab"]


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    return page_component(services, "inspect", _constants(services), HANDLERS | EXPORT_HANDLERS)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.policies.names()),
        "maxTokens": MAX_TOKENS,
        "maxCharacters": services.limits.characters,
    }
