"""Answer to a poll: the same shape for runs in memory and in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.formats import iso
from app.model.model_queue import LESSONS
from app.runs.live_run import ENDED, LiveRun
from app.runs.recorded_run import KINDS, KindOfRun, RecordedRun, question_of, title_of_run
from storage import RunRecord

ROWS_PER_POLL = 400
# Of the first and the last event, which come with every poll: texts that the page has already.
_UNREAD = frozenset({"prompt_text", "page_texts", "text"})


def live_view(run: LiveRun, ahead: Sequence[str] | None, cursor: int) -> dict[str, Any]:
    """State of a run, and its rows from ``cursor`` on; ``ahead`` own the turns before its own."""
    status, num_rows = run.shown()
    rows = run.tokens[cursor : min(num_rows, cursor + ROWS_PER_POLL)]
    state = {
        "live": status not in ENDED,
        "stopping": run.stop_requested.is_set() and status not in ENDED,
        "position": None if ahead is None else len(ahead),
        "ahead": _kind(ahead[0], run.owner) if ahead else None,
        "reading": run.reading if status == "prefill" else None,
        "rows": rows,
        "cursor": cursor + len(rows),
        "more": cursor + len(rows) < num_rows,
        "warning": run.warning(),
    }
    about = {} if cursor else _about(run.recorded(), "", run.created_at)
    return state | {"status": status} | _events(run, run.kind) | about


def stored_view(record: RunRecord, events: list[dict[str, Any]], cursor: int) -> dict[str, Any]:
    """State of a run in the database; ``events`` are from ``cursor`` on, with one that is next."""
    kind = KINDS[record.kind]
    rows = [_with(event, kind.token) for event in events[:ROWS_PER_POLL]]
    missing = ("position", "ahead", "reading", "warning")
    state = (
        {"live": False, "stopping": False}
        | dict.fromkeys(missing)
        | {
            "rows": rows,
            "cursor": rows[-1]["index"] + 1 if rows else cursor,
            "more": len(events) > ROWS_PER_POLL,
        }
    )
    about = (
        {} if cursor else _about(RecordedRun.of(record, events), record.title, record.created_at)
    )
    return state | {"status": record.status} | _events(record, kind) | about


def whole_view(record: RunRecord, events: list[dict[str, Any]]) -> dict[str, Any]:
    """``stored_view`` with every row at once, for files that nobody polls."""
    rows = [_with(event, KINDS[record.kind].token) for event in events]
    return stored_view(record, [], 0) | {"rows": rows, "cursor": len(rows)}


def _kind(owner: str, own: str) -> str:
    """Whose turn is before a run: a lesson's, the visitor's own, or that of another one."""
    return "lesson" if owner == LESSONS else "own" if owner == own else "other"


def _events(run: LiveRun | RunRecord, kind: KindOfRun) -> dict[str, Any]:
    """The first and the last event, as far as there are, and an error."""
    prefill, summary = _read(run.prefill, kind.first), _read(run.summary, kind.last)
    return {"prefill": prefill, "summary": summary, "error": run.error}


def _read(event: dict[str, Any] | None, wanted: frozenset[str]) -> dict[str, Any] | None:
    """Return an event as the engine recorded it, but for what no page reads."""
    if event is None:
        return None
    return {name: value for name, value in _with(event, wanted).items() if name not in _UNREAD}


def _with(event: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    """The event. Raises: KeyError for one of an older release that lacks what pages read."""
    if missing := wanted - event.keys():
        raise KeyError(", ".join(sorted(missing)))
    return event


def _about(run: RecordedRun, title: str, created_at: datetime) -> dict[str, Any]:
    """The run, and texts of its prompt's pages, none of an older run, or before it was read."""
    about = {
        "id": run.run_id,
        "kind": run.kind,
        "prompt": run.prompt,
        "title": title_of_run(run.kind, run.prompt, title),
        "question": question_of(run.prompt),
        "model": run.model,
        "config": run.config,
        "parent": run.parent,
        "created_at": iso(created_at),
    }
    return {"run": about, "pages": list((run.prefill or {}).get("page_texts", ()))}
