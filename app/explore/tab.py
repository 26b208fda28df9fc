"""Lays out the Explore tab: one component that draws itself and polls for tokens.

Streaming through Gradio's own components costs 10 kB a token and seconds of lag; a script that
polls with a cursor costs 0.4 kB and a tenth of a second.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.explore.examples import EXAMPLES
from app.explore.handlers import HANDLERS
from app.explore.settings import DEFAULT_SETTINGS, MAX_NEW_TOKENS
from app.page_assets import page_script, plotly_path
from app.page_calls import server_functions
from app.services import Services
from app.theme_colours import NUM_BINS
from app.views import SCHEDULE_LABELS
from sol_core.actions import ActionGrid

__all__ = ["build_tab"]

_SCRIPTS = (
    "dom.js",
    "format.js",
    "form_parts.js",
    "controls.js",
    "token_text.js",
    "tokens.js",
    "card.js",
    "legend.js",
    "plotly.js",
    "series.js",
    "charts.js",
    "status.js",
    "run.js",
    "page_parts.js",
    "explore.js",
)


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks to show the tab (a run was opened)."""
    gr.set_static_paths([plotly_path()])
    return gr.HTML(
        value="",
        html_template='<div class="sol-explore"></div>',
        js_on_load=page_script("app.explore", _SCRIPTS, _constants()),
        server_functions=server_functions(services, HANDLERS),
        apply_default_css=False,
        elem_id="explore-page",
    )


def _constants() -> dict[str, Any]:
    grid = ActionGrid()
    return {
        "defaults": DEFAULT_SETTINGS,
        "examples": EXAMPLES,
        "schedules": SCHEDULE_LABELS,
        "numBins": NUM_BINS,
        "maxNewTokens": MAX_NEW_TOKENS,
        "limits": {
            "keep": [grid.keep_fractions[0] * 100, 100],
            "channels": [grid.channel_keep_ratios[0] * 100, 100],
            "bits": [grid.bit_widths[0], grid.bit_widths[-1]],
        },
        "plotly": f"gradio_api/file={plotly_path().as_posix()}",
    }
