"""Lays out the Inspect tab: one component that draws itself and polls for scored tokens."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.inspect.handlers import HANDLERS
from app.inspect.settings import MAX_TOKENS, default_settings
from app.page_component import page_component
from app.services import Services
from app.sharing.handlers import EXPORT_HANDLERS

__all__ = ["build_tab"]


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    return page_component(services, "inspect", _constants(services), HANDLERS | EXPORT_HANDLERS)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_settings(services.policies.names()),
        "maxTokens": MAX_TOKENS,
        "maxCharacters": services.limits.characters,
    }
