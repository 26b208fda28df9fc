"""Python calls of the History page. Each handler takes the services and one JSON object."""

from __future__ import annotations

from typing import Any

from app.formats import budget_text, iso, schedule_label
from app.host.damage import naming_damage
from app.host.errors import DamagedError
from app.pages.shared.sharing_calls import EXPORT_HANDLERS
from app.runs.queue import RunNotFoundError
from app.runs.recorded_run import parting_token
from app.web.calls import Request, RequestError, by_name, field, owner_of
from app.web.component import Page
from app.web.services import Services
from storage import RunRecord, title_of

MAX_LIMIT = 200


def list_runs(services: Services, request: Request) -> dict[str, Any]:
    """One page of runs, newest first; ``next`` is ``before`` of the following page, if any."""
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
    shown = [record for record in page if record.status != "running" or record.owner == owner]
    return {
        "runs": [_row(record) for record in shown],
        "next": page[-1].id if len(records) > limit else None,
    }


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


def _row(record: RunRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": record.id,
        "kind": record.kind,
        "title": record.title or title_of(record.prompt),
        "status": record.status,
        "status_label": record.status.capitalize(),
        "schedule_label": "",
        "budget": "",
        "tokens": record.num_tokens,
        "created_at": iso(record.created_at),
        "model": record.model,
        "fork": None,
        "can_delete": record.status != "running",
    }
    try:
        if record.damage is not None:
            raise DamagedError(record.damage)
        with naming_damage("This run"):
            row["schedule_label"] = schedule_label(record.schedule, record.config)
            row["budget"] = budget_text(record.config)
            if (index := parting_token(record)) is not None:
                row["fork"] = {"parent": record.parent, "index": index}
    except DamagedError:
        row |= {"status": "damaged", "status_label": "Damaged"}
    return row


HANDLERS = by_name(list_runs, delete_run)
PAGE = Page("history", "History", HANDLERS | EXPORT_HANDLERS)
