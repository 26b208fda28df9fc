"""Lays out the History tab: one component that lists runs and opens them in Explore."""

from __future__ import annotations

import gradio as gr

from app.history.handlers import HANDLERS
from app.page_assets import page_script
from app.page_calls import server_functions
from app.services import Services

__all__ = ["build_tab"]

_SCRIPTS = ("dom.js", "format.js", "form_parts.js", "history.js")


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks to show Explore (a run was opened)."""
    return gr.HTML(
        value="",
        html_template='<div class="sol-history"></div>',
        js_on_load=page_script("app.history", _SCRIPTS, {"isShared": services.is_shared}),
        server_functions=server_functions(services, HANDLERS),
        apply_default_css=False,
        elem_id="history-page",
    )
