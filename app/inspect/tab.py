"""Lays out the Inspect tab: one component that draws itself and polls for scored tokens."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.inspect.handlers import HANDLERS
from app.inspect.settings import MAX_TOKENS, default_settings
from app.page_assets import axis_limits, plotly_url
from app.page_component import page_component
from app.services import Services
from app.sharing.handlers import EXPORT_HANDLERS
from app.theme_colours import DIFFERENCE_BINS, NUM_BINS
from app.views import SCHEDULE_LABELS

__all__ = ["build_tab"]

_SCRIPTS = (
    "form_parts.js",
    "budget_fields.js",
    "token_text.js",
    "tokens.js",
    "card.js",
    "card_policy.js",
    "picture.js",
    "lens_plot.js",
    "lens_tables.js",
    "lens.js",
    "legend.js",
    "plotly.js",
    "series.js",
    "chart.js",
    "charts.js",
    "parts.js",
    "status_line.js",
    "run.js",
    "run_page.js",
    "page_parts.js",
    "inspect_rows.js",
    "inspect_form.js",
    "token_panes.js",
    "inspect_totals.js",
    "difficulty.js",
    "inspect_stage.js",
    "inspect.js",
)


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks for the tab named in ``solTab``."""
    return page_component(
        services, "inspect", _SCRIPTS, _constants(services), HANDLERS | EXPORT_HANDLERS
    )


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_settings(services.policies.names()),
        "schedules": SCHEDULE_LABELS,
        "numBins": NUM_BINS,
        "differenceBins": DIFFERENCE_BINS,
        "maxTokens": MAX_TOKENS,
        "maxCharacters": services.limits.characters,
        "limits": axis_limits(),
        "plotly": plotly_url(),
    }
