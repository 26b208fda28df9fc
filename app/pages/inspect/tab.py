"""Lays out the Inspect tab: one component that draws itself and polls for scored tokens."""

from __future__ import annotations

from typing import Any

from app.pages.inspect.form import MAX_TOKENS, default_form
from app.pages.inspect.handlers import HANDLERS
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.web.component import Page
from app.web.services import Services


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.policies.names()),
        "maxTokens": MAX_TOKENS,
        "maxCharacters": services.limits.characters,
    }


PAGE = Page("inspect", "Inspect", HANDLERS | EXPORT_HANDLERS, _constants)
