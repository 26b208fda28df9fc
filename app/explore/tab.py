"""Lays out the Explore tab: one component that draws itself and polls for tokens.

Streaming through Gradio's own components costs 10 kB a token and seconds of lag; a script that
polls with a cursor costs 0.4 kB and a tenth of a second.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.explore.examples import EXAMPLES
from app.explore.handlers import HANDLERS
from app.explore.settings import default_settings
from app.page_assets import axis_limits, plotly_url
from app.page_component import page_component
from app.services import Services
from app.sharing.handlers import EXPORT_HANDLERS
from app.theme_colours import NUM_BINS
from app.views import SCHEDULE_LABELS
from sol_core.actions import ActionGrid
from sol_core.cost_estimates import ESTIMATED_CARDS, ESTIMATED_CONTEXTS

__all__ = ["build_tab"]

_SCRIPTS = (
    "form_parts.js",
    "budget_fields.js",
    "schedule_field.js",
    "controls.js",
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
    "status.js",
    "estimate.js",
    "run.js",
    "run_page.js",
    "page_parts.js",
    "explore.js",
)


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks to show the tab (a run was opened)."""
    handlers = HANDLERS | EXPORT_HANDLERS
    return page_component(services, "explore", _SCRIPTS, _constants(services), handlers)


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_settings(services.policies.names(), services.limits.new_tokens),
        "examples": EXAMPLES,
        "schedules": SCHEDULE_LABELS,
        "numBins": NUM_BINS,
        "maxNewTokens": services.limits.new_tokens,
        "limits": axis_limits(),
        "plotly": plotly_url(),
        "estimate": {
            "cards": ESTIMATED_CARDS,
            "contexts": ESTIMATED_CONTEXTS,
            "context": 2048,
            "page_size": ActionGrid().page_size,
        },
    }
