"""Jobs as the pages want them: plain JSON with what may be done about each. No state here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from app.formats.plain_json import finite, iso, json_safe
from storage import TASKS_JOB, JobKind, JobRecord

JOB_KINDS: dict[JobKind, str] = {
    "train": "Training",
    "evaluate": "Evaluation",
    TASKS_JOB: "Accuracy",
}
_LIVE = ("queued", "running")
_RESUMABLE = ("paused", "failed", "cancelled", "abandoned")

# In place of what is done, while a request waits for its worker.
_STOPPING = {
    "pause": "waiting for the text or update in work, then for a checkpoint",
    "cancel": "waiting for the text or update in work",
}
_ADVICE = {
    "failed": "Put right what the message names. Then resume from the last checkpoint, or clone "
    "the settings into the form and change them.",
    "abandoned": "The process that worked on it is gone: it was killed, or the machine went down. "
    "Resume goes on from the last checkpoint.",
    "cancelled": "Resume takes it up again from its last checkpoint.",
    "paused": "It is saved in a checkpoint and holds no processor. Resume puts it back in line.",
}


def job_row(record: JobRecord) -> dict[str, Any]:
    """Return a job's row in a list."""
    return {
        "id": record.id,
        "kind": record.kind,
        "kind_label": JOB_KINDS.get(record.kind, record.kind),
        "title": record.title,
        "status": record.status,
        "status_label": _status_label(record),
        "progress": finite(record.progress),
        "eta_s": finite(record.eta_s),
        "created_at": iso(record.created_at),
        "is_damaged": record.damage is not None,
        **_permissions(record),
    }


def job_view(record: JobRecord) -> dict[str, Any]:
    """Everything of one job besides metrics and result; a ``live`` one changes without the user."""
    return job_row(record) | {
        "live": record.status in _LIVE,
        "message": _STOPPING.get(record.control, record.message),
        "error": record.damage or record.error,
        "advice": _ADVICE.get(record.status),
        "log_file": record.log_file,
        "model": str(record.params.get("model", "")),
        "params": json_safe(record.params),
        "result": json_safe(record.result) if record.kind == "train" else None,
        "started_at": _moment(record.started_at),
        "finished_at": _moment(record.finished_at),
    }


def _permissions(record: JobRecord) -> dict[str, bool]:
    stops = record.status == "running" and record.control != "run"
    return {
        "can_pause": record.status in _LIVE and not stops,
        "can_resume": record.status in _RESUMABLE or (stops and record.control == "pause"),
        "can_cancel": record.status in (*_LIVE, "paused") and record.control != "cancel",
        "can_delete": record.status not in _LIVE,
    }


def _status_label(record: JobRecord) -> str:
    if record.damage is not None:
        return "Damaged"
    if record.status == "running" and record.control in ("pause", "cancel"):
        return "Pausing" if record.control == "pause" else "Cancelling"
    return "Finished" if record.status == "succeeded" else record.status.capitalize()


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)
