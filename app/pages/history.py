"""Python calls of the History page. Each handler takes the services and one JSON object."""

from __future__ import annotations

from typing import Any

from app.host.errors import naming_damage
from app.pages.shared.run_calls import EXPORT_HANDLERS, run_row
from app.results.shipped import recorded_prompts
from app.runs.generation_runs import RunNotFoundError
from app.runs.glance import glance
from app.runs.recorded_run import RecordedRun
from app.web.calls import Page, Request, RequestError, by_name, field, owner_of
from app.web.services import Services

MAX_LIMIT = 200


def list_runs(services: Services, request: Request) -> dict[str, Any]:
    """List one page of runs, newest first, but for those of the opening.

    ``next`` is ``before`` of the following page, if any.
    """
    owner, before = owner_of(request), request.get("before")
    if before is not None and not isinstance(before, str):
        raise RequestError("before must be a run's id or null. Reload the page.")
    limit = min(max(field(request, "limit", int), 1), MAX_LIMIT)
    records = services.store.runs.list(
        owner=owner if services.is_shared else None,
        limit=limit + 1,
        before=before,
        query=field(request, "query", str).strip(),
    )
    page = records[:limit]
    shown = [
        record
        for record in page
        if (record.status != "running" or record.owner == owner)
        and record.prompt not in recorded_prompts()
    ]
    return {
        "runs": [run_row(record) for record in shown],
        "next": page[-1].id if len(records) > limit else None,
    }


def run_glance(services: Services, request: Request) -> dict[str, Any]:
    """A run's strip, share and verdict; nothing of one that goes on or cannot be read."""
    owner, run_id = owner_of(request), field(request, "run_id", str)
    services.runs.check_visible(owner, run_id)
    with naming_damage("This run"):
        record = services.store.runs.get(run_id)
        run = RecordedRun.of(record, services.store.runs.events(run_id))
        return glance(run, record.summary)


def delete_run(services: Services, request: Request) -> dict[str, Any]:
    owner, run_id = owner_of(request), field(request, "run_id", str)
    record = services.store.runs.get(run_id, allow_damage=True)
    if services.is_shared and record.owner != owner:
        raise RunNotFoundError("Only the visitor who made a run can delete it.")
    if services.runs.is_live(run_id):
        raise RequestError("This run is still going on. Stop it first, then delete it.")
    services.store.runs.delete(run_id)
    services.runs.forget(run_id)
    return {}


HANDLERS = by_name(list_runs, run_glance, delete_run)
PAGE = Page("history", "History", HANDLERS | EXPORT_HANDLERS)
