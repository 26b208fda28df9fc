"""Lays out the Explore tab: one component that draws itself and polls for tokens.

Streaming through Gradio's own components costs 10 kB a token and seconds of lag; a script that
polls with a cursor costs 0.4 kB and a tenth of a second.
"""

from __future__ import annotations

from typing import Any

from app.pages.explore.examples import EXAMPLES
from app.pages.explore.form import default_form
from app.pages.explore.handlers import HANDLERS
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.web.component import Page
from app.web.services import Services
from sol_core.speed.cost_estimates import ESTIMATED_CARDS, ESTIMATED_CONTEXTS


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.policies.names(), services.limits.new_tokens),
        "examples": EXAMPLES,
        "maxNewTokens": services.limits.new_tokens,
        "estimate": {
            "cards": ESTIMATED_CARDS,
            "contexts": ESTIMATED_CONTEXTS,
            "context": 2048,
        },
    }


PAGE = Page("explore", "Explore", HANDLERS | EXPORT_HANDLERS, _constants)
