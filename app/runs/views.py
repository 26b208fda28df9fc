"""Answer to a poll: the same shape for runs in memory and in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from app.formats.plain_json import iso
from app.runs.kinds import KINDS
from app.runs.live_run import ENDED, LiveRun
from app.runs.recorded_run import RecordedRun
from storage import RunRecord, title_of

ROWS_PER_POLL = 400
# Of the first and the last event, which come with every poll: texts that the page has already.
_UNREAD = frozenset({"prompt_text", "page_texts", "text"})


def live_view(run: LiveRun, place: int | None, cursor: int) -> dict[str, Any]:
    """State of a run in memory, and its rows from number ``cursor`` on.

    ``place`` is how many runs are before it in line; None once it has left the line.
    """
    status, num_rows = run.shown()
    part = slice(cursor, min(num_rows, cursor + ROWS_PER_POLL))
    rows = run.tokens[part]
    view: dict[str, Any] = {
        "status": status,
        "live": status not in ENDED,
        "stopping": run.stop_requested.is_set() and status not in ENDED,
        "place": place,
        "rows": rows,
        "cursor": cursor + len(rows),
        "more": cursor + len(rows) < num_rows,
        "prefill": _read(run.prefill, run.kind.first),
        "summary": _read(run.summary, run.kind.last),
        "error": run.error,
        "warning": run.warning(),
    }
    if cursor == 0:
        view["run"] = _about(run.recorded(), title_of(run.prompt), run.created_at)
        view["pages"] = _pages(run.prefill)
    return view


def stored_view(record: RunRecord, events: list[dict[str, Any]], cursor: int) -> dict[str, Any]:
    """State of a run in the database.

    ``events`` are its tokens' from number ``cursor`` on, one more than ``ROWS_PER_POLL`` if there
    are that many.
    """
    kind = KINDS[record.kind]
    rows = [_with(event, kind.token) for event in events[:ROWS_PER_POLL]]
    view = {
        "status": record.status,
        "live": False,
        "stopping": False,
        "place": None,
        "rows": rows,
        "cursor": rows[-1]["index"] + 1 if rows else cursor,
        "more": len(events) > ROWS_PER_POLL,
        "prefill": _read(record.prefill, kind.first),
        "summary": _read(record.summary, kind.last),
        "error": record.error,
        "warning": None,
    }
    if cursor == 0:
        title = record.title or title_of(record.prompt)
        view["run"] = _about(RecordedRun.of(record, events), title, record.created_at)
        view["pages"] = _pages(record.prefill)
    return view


def whole_view(record: RunRecord, events: list[dict[str, Any]]) -> dict[str, Any]:
    """As ``stored_view``, with every row at once, for files that nobody polls."""
    rows = [_with(event, KINDS[record.kind].token) for event in events]
    return stored_view(record, [], 0) | {"rows": rows, "cursor": len(rows)}


def _pages(prefill: dict[str, Any] | None) -> list[str]:
    """Texts of the prompt's pages; none of an older run, or before it was read."""
    return list(prefill.get("page_texts", ())) if prefill else []


def _read(event: dict[str, Any] | None, wanted: frozenset[str]) -> dict[str, Any] | None:
    """Return an event as the engine recorded it, but for what no page reads."""
    if event is None:
        return None
    return {name: value for name, value in _with(event, wanted).items() if name not in _UNREAD}


def _with(event: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    """Return an event as the engine recorded it.

    Raises: KeyError for one of an older release or another hand that lacks what pages read.
    """
    if missing := wanted - event.keys():
        raise KeyError(", ".join(sorted(missing)))
    return event


def _about(run: RecordedRun, title: str, created_at: datetime) -> dict[str, Any]:
    return {
        "id": run.run_id,
        "kind": run.kind,
        "prompt": run.prompt,
        "title": title,
        "model": run.model,
        "config": run.config,
        "parent": run.parent,
        "created_at": iso(created_at),
    }
