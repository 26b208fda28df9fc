"""Lays out the Policies tab: one component with the library and the policy on show."""

from __future__ import annotations

import gradio as gr

from app.pages.policies.handlers import HANDLERS
from app.web.component import page_component
from app.web.services import Services


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    return page_component(services, "policies", {}, HANDLERS)
