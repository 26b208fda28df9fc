"""Lays out the Evaluate tab: one component with the form, the result on show and the list."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.corpus_files import MAX_UPLOAD_BYTES, SUFFIXES
from app.evaluate.handlers import HANDLERS
from app.evaluate.request import DEFAULT_VALUES
from app.job_views import JOB_KINDS
from app.page_assets import plotly_url
from app.page_component import page_component
from app.services import Services
from app.train.estimate import PACES

__all__ = ["build_tab"]

_SCRIPTS = (
    "form_parts.js",
    "plotly.js",
    "chart.js",
    "figure.js",
    "page_parts.js",
    "upload.js",
    "corpus_picker.js",
    "job_follower.js",
    "question.js",
    "job_list.js",
    "job_panel.js",
    "job_page.js",
    "evaluate_form.js",
    "result_table.js",
    "figures.js",
    "evaluate.js",
)


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks for the tab named in ``solTab``."""
    return page_component(services, "evaluate", _SCRIPTS, _constants(services), HANDLERS)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": DEFAULT_VALUES,
        "kinds": JOB_KINDS,
        "suffixes": SUFFIXES,
        "maxUploadBytes": MAX_UPLOAD_BYTES,
        "isShared": services.is_shared,
        "paces": {
            "decisions": PACES.decisions_per_s,
            "prefillTokens": PACES.prefill_tokens_per_s,
            "start": PACES.start_s,
        },
        "plotly": plotly_url(),
    }
