"""Lays out the Policies tab: one component with the library and the policy on show."""

from __future__ import annotations

import gradio as gr

from app.page_assets import plotly_url
from app.page_component import page_component
from app.policies.handlers import HANDLERS
from app.services import Services

__all__ = ["build_tab"]

_SCRIPTS = (
    "form_parts.js",
    "upload.js",
    "plotly.js",
    "chart.js",
    "figure.js",
    "page_parts.js",
    "train_charts.js",
    "dialog.js",
    "policy_actions.js",
    "policy_view.js",
    "policies.js",
)


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks for the tab named in ``solTab``."""
    return page_component(services, "policies", _SCRIPTS, {"plotly": plotly_url()}, HANDLERS)
