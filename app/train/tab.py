"""Lays out the Train tab: one component with the form, the job on show and the list of jobs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.corpus_files import MAX_UPLOAD_BYTES, SUFFIXES
from app.job_views import JOB_KINDS
from app.page_assets import axis_limits, plotly_url
from app.page_component import page_component
from app.services import Services
from app.theme_colours import NUM_BINS
from app.train.form import form_groups, values_from_config
from app.train.handlers import HANDLERS, MAX_NAME_LENGTH
from sol_core.training.config import PRESETS

__all__ = ["build_tab"]

_SCRIPTS = (
    "form_parts.js",
    "token_text.js",
    "tokens.js",
    "card.js",
    "legend.js",
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
    "train_form.js",
    "train_charts.js",
    "train_sample.js",
    "train.js",
)
_PRESET_WORDS = {
    "quick": ("Quick", "A first look: a small policy that already saves, in a few minutes."),
    "standard": ("Standard", "The default: warm start on many texts, then GRPO on rollouts."),
    "paper": ("Paper", "The authors' own recipe, for comparison: joint network, GRPO alone."),
}


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks for the tab named in ``solTab``."""
    return page_component(services, "train", _SCRIPTS, _constants(services), HANDLERS)


def _constants(services: Services) -> dict[str, Any]:
    presets = [
        {
            "key": key,
            "label": _PRESET_WORDS.get(key, (key.capitalize(), ""))[0],
            "meaning": _PRESET_WORDS.get(key, ("", ""))[1],
            "values": values_from_config(config),
        }
        for key, config in PRESETS.items()
    ]
    return {
        "presets": presets,
        "defaultPreset": "standard",
        "groups": form_groups(),
        "kinds": JOB_KINDS,
        "numBins": NUM_BINS,
        "limits": axis_limits(),
        "suffixes": SUFFIXES,
        "maxUploadBytes": MAX_UPLOAD_BYTES,
        "maxNameLength": MAX_NAME_LENGTH,
        "isShared": services.is_shared,
        "plotly": plotly_url(),
    }
