"""Lays out the History tab: one component that lists runs and opens them in Explore."""

from __future__ import annotations

import gradio as gr

from app.pages.history.handlers import HANDLERS
from app.pages.shared.sharing_calls import EXPORT_HANDLERS, IMPORT_HANDLERS
from app.web.component import page_component
from app.web.services import Services


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    handlers = HANDLERS | EXPORT_HANDLERS | IMPORT_HANDLERS
    return page_component(services, "history", {}, handlers)
