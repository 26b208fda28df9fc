"""Lays out the Evaluate tab: one component with the form, the result on show and the list."""

from __future__ import annotations

from typing import Any

from app.pages.evaluate.form import DEFAULT_FORM
from app.pages.evaluate.handlers import HANDLERS
from app.pages.train.estimate import PACES
from app.web.component import Page
from app.web.services import Services


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": DEFAULT_FORM,
        "paces": {
            "decisions": PACES.decisions_per_s,
            "prefillTokens": PACES.prefill_tokens_per_s,
            "start": PACES.start_s,
        },
    }


PAGE = Page("evaluate", "Evaluate", HANDLERS, _constants)
