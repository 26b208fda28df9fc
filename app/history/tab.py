"""Lays out the History tab: one component that lists runs and opens them in Explore."""

from __future__ import annotations

import gradio as gr

from app.history.handlers import HANDLERS
from app.page_component import page_component
from app.services import Services
from app.sharing.handlers import EXPORT_HANDLERS, IMPORT_HANDLERS

__all__ = ["build_tab"]


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    handlers = HANDLERS | EXPORT_HANDLERS | IMPORT_HANDLERS
    return page_component(services, "history", {}, handlers)
