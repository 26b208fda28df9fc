"""Lays out the History tab: one component that lists runs and opens them in Explore."""

from __future__ import annotations

import gradio as gr

from app.history.handlers import HANDLERS
from app.page_component import page_component
from app.services import Services

__all__ = ["build_tab"]

_SCRIPTS = ("dom.js", "format.js", "form_parts.js", "question.js", "history.js")


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks to show another tab (a run was opened)."""
    return page_component(services, "history", _SCRIPTS, {"isShared": services.is_shared}, HANDLERS)
