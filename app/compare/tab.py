"""Lays out the Compare tab: one component with two parts, a pair of runs and a challenge."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.challenge_desk import MAX_STEPS, MIN_STEPS
from app.compare.handlers import HANDLERS, MAX_NAME
from app.compare.texts import TEXTS
from app.explore.examples import EXAMPLES
from app.explore.settings import default_settings
from app.page_assets import axis_limits
from app.page_component import page_component
from app.services import Services
from app.sharing.handlers import EXPORT_HANDLERS
from app.theme_colours import NUM_BINS
from app.views import SCHEDULE_LABELS

__all__ = ["build_tab"]

_SCRIPTS = (
    "dom.js",
    "format.js",
    "form_parts.js",
    "schedule_field.js",
    "budget_fields.js",
    "controls.js",
    "token_text.js",
    "tokens.js",
    "card.js",
    "card_policy.js",
    "legend.js",
    "parts.js",
    "status_line.js",
    "status.js",
    "run.js",
    "page_parts.js",
    "question.js",
    "pair_form.js",
    "pair_table.js",
    "pair_stage.js",
    "pair.js",
    "painting.js",
    "challenge_form.js",
    "challenge_meter.js",
    "challenge_scores.js",
    "token_duel.js",
    "challenge.js",
    "compare.js",
)


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks to show the tab (a link was opened)."""
    return page_component(
        services, "compare", _SCRIPTS, _constants(services), HANDLERS | EXPORT_HANDLERS
    )


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_settings(services.policies.names(), services.limits.new_tokens),
        "examples": EXAMPLES,
        "texts": TEXTS,
        "steps": [MIN_STEPS, MAX_STEPS],
        "maxName": MAX_NAME,
        "schedules": SCHEDULE_LABELS,
        "numBins": NUM_BINS,
        "maxNewTokens": services.limits.new_tokens,
        "limits": axis_limits(),
    }
