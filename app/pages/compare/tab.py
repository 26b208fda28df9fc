"""Lays out the Compare tab: one component with two parts, a pair of runs and a challenge."""

from __future__ import annotations

from typing import Any

from app.challenges.desk import MAX_STEPS, MIN_STEPS
from app.challenges.texts import TEXTS
from app.pages.compare.handlers import HANDLERS, MAX_NAME
from app.pages.explore.examples import EXAMPLES
from app.pages.explore.form import default_form
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.web.component import Page
from app.web.services import Services


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.policies.names(), services.limits.new_tokens),
        "examples": EXAMPLES,
        "texts": TEXTS,
        "steps": [MIN_STEPS, MAX_STEPS],
        "maxName": MAX_NAME,
        "maxNewTokens": services.limits.new_tokens,
    }


PAGE = Page("compare", "Compare", HANDLERS | EXPORT_HANDLERS, _constants)
