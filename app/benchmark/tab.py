"""Lays out the Benchmark tab: one component with the form, the result on show and the list."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.benchmark.handlers import HANDLERS
from app.benchmark.request import DEFAULT_VALUES
from app.benchmark.view import TASK_LABELS, TASK_MEANINGS
from app.job_views import JOB_KINDS
from app.page_assets import plotly_url
from app.page_component import page_component
from app.services import Services

__all__ = ["build_tab"]

_SCRIPTS = (
    "form_parts.js",
    "plotly.js",
    "chart.js",
    "figure.js",
    "page_parts.js",
    "job_follower.js",
    "question.js",
    "job_list.js",
    "job_panel.js",
    "job_page.js",
    "benchmark_form.js",
    "benchmark_figures.js",
    "benchmark.js",
)


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks for the tab named in ``solTab``."""
    return page_component(services, "benchmark", _SCRIPTS, _constants(), HANDLERS)


def _constants() -> dict[str, Any]:
    return {
        "defaults": DEFAULT_VALUES,
        "tasks": [
            {"name": name, "label": label, "meaning": TASK_MEANINGS[name]}
            for name, label in TASK_LABELS.items()
        ],
        "kinds": JOB_KINDS,
        "plotly": plotly_url(),
    }
