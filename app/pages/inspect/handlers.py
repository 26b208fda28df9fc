"""Python calls of the Inspect page. Each handler takes the services and one JSON object."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.host.errors import AppError
from app.pages.explore.form import checked_prompt
from app.pages.inspect.examples import EXAMPLES
from app.pages.inspect.form import MAX_TOKENS, config_from_form, default_form, form_from_config
from app.pages.shared.run_calls import RunCalls
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.web.calls import Request, by_name, field, owner_of
from app.web.component import Page
from app.web.services import Services
from sol_core.inspection.records import InspectionConfig


def start_inspection(services: Services, request: Request) -> dict[str, Any]:
    """Check the settings, put the inspection in line, answer with its id.

    ``run_id`` names a saved run, whose generated tokens are then inspected instead of ``text``.
    """
    owner, form = owner_of(request), field(request, "settings", dict)
    config = config_from_form(form, services.policies.resolve_name)
    if request.get("run_id") is None:
        text = checked_prompt(field(request, "text", str))
    else:
        text, config = _of_run(services, owner, field(request, "run_id", str), config)
    return {"run_id": services.runs.start(owner, text, config)}


HANDLERS = RunCalls("inspection", form_from_config).handlers() | by_name(start_inspection)


def _of_run(
    services: Services, owner: str, run_id: str, config: InspectionConfig
) -> tuple[str, InspectionConfig]:
    """A saved run's prompt, and the configuration that inspects what was generated after it."""
    run = services.runs.recorded(owner, run_id)
    if not run.tokens:
        raise AppError("This run has no generated tokens: there is nothing to inspect.")
    prompt, chat = run.asked
    # The limit is for texts; a run is never cut.
    whole = replace(config, generated=tuple(run.token_ids), chat=chat, max_tokens=None)
    return prompt, whole


def _constants(services: Services) -> dict[str, Any]:
    return {
        "defaults": default_form(services.policies.names()),
        "examples": EXAMPLES,
        "maxTokens": MAX_TOKENS,
        "maxCharacters": services.limits.characters,
    }


PAGE = Page("inspect", "Inspect", HANDLERS | EXPORT_HANDLERS, _constants)
