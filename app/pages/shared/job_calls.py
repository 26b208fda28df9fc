"""Python calls of every page with jobs: lists, one job with its reports, pause and cancel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from app.formats import finite, iso, json_safe, verdict_record
from app.host.errors import AppError, naming_damage
from app.host.hosting import is_zero_gpu
from app.host.limits import Quota
from app.host.visitor import address
from app.jobs import runner
from app.web.calls import Request, RequestError, by_name, choice, field, owner_of
from app.web.services import Services
from sol_core.errors import SolError
from sol_core.fields import from_json
from sol_core.reporting.verdict import training_verdict
from sol_core.training.config import NOMINAL_MINUTES, PRESETS, TrainConfig
from storage import TASKS_JOB, JobKind, JobRecord, NotFoundError
from storage.records import LIVE_STATUSES, RESUMABLE_STATUSES

JOB_KINDS: dict[JobKind, str] = {
    "train": "Training",
    "evaluate": "Evaluation",
    TASKS_JOB: "Accuracy",
}
_LIVE = ("queued", "running")

# Instead of what is done, while a request waits for its worker.
_STOPPING = {
    "pause": "saves after the current text or update, usually within a minute",
    "cancel": "stops after the current text or update, usually within a minute",
}
_ADVICE = {
    "failed": "Put right what the message names. Then resume from the last checkpoint, or clone "
    "the settings into the form and change them.",
    "abandoned": "The process that worked on it is gone: it was killed, or the machine went down. "
    "Resume goes on from the last checkpoint.",
    "cancelled": "Resume takes it up again from its last checkpoint.",
    "cancelled early": "It was cancelled before its first checkpoint, so Resume starts over.",
    "paused": "It is saved in a checkpoint and holds no processor. Resume queues it again.",
}
METRICS_PER_POLL = 500
MAX_LIMIT = 100
JOBS = Quota(
    "jobs queued, running or paused",
    of_visitor=20,
    of_address=40,
    of_all=200,
    remedy="Cancel some, or wait.",
)
_ADDING = threading.Lock()  # between a look at the jobs and one more

_REFUSAL = (
    "This is a shared server, and long jobs are turned off on it. Run SOL Explorer on your own "
    "machine (python launch.py), or duplicate the Space and set SOL_LIMITS=jobs=1 in its settings."
)
_ZERO_GPU_REFUSAL = (
    "This Space runs on ZeroGPU, which lends a GPU to single calls of at most {seconds} s and none "
    "to a background worker: training, evaluation and accuracy cannot run here. Run SOL Explorer "
    "on your own machine (python launch.py), or duplicate the Space onto GPU or CPU hardware and "
    "set SOL_LIMITS=jobs=1 in its settings."
)


def refusal(services: Services) -> str | None:
    """Return the reason why this server starts no jobs; None where it does."""
    if services.jobs_allowed:
        return None
    if is_zero_gpu():
        return _ZERO_GPU_REFUSAL.format(seconds=services.limits.gpu_seconds)
    return _REFUSAL


def check_jobs_allowed(services: Services) -> None:
    if reason := refusal(services):
        raise AppError(reason)


@contextmanager
def admitted_job(services: Services, owner: str, job_id: str = "") -> Iterator[str | None]:
    """Let a visitor add a job, or one that is to go on; yields the address. Raises: AppError."""
    here = address() if services.is_shared else None
    with _ADDING:
        held = services.store.jobs.list(statuses=LIVE_STATUSES, limit=JOBS.of_all)
        JOBS.check((job for job in held if job.id != job_id), owner, here)
        yield here


def visible_job(services: Services, request: Request) -> JobRecord:
    """The job that the request names. Raises: RequestError where this visitor may see none."""
    owner, job_id = owner_of(request), field(request, "job_id", str)
    try:
        record = services.store.jobs.get(job_id)
    except NotFoundError:
        record = None
    if record is None or (services.is_shared and record.owner != owner):
        raise RequestError(
            "This job does not exist: it was deleted, or belongs to someone else. Choose another "
            "one in the list."
        )
    return record


def list_jobs(services: Services, request: Request) -> dict[str, Any]:
    """The newest jobs, on a shared server only the visitor's own; ``more``: there are others."""
    owner, kind = owner_of(request), choice(request, "kind", JOB_KINDS)
    limit = min(max(field(request, "limit", int), 1), MAX_LIMIT)
    records = services.store.jobs.list(
        owner=owner if services.is_shared else None, kind=kind, limit=limit + 1
    )
    return {"jobs": [job_row(record) for record in records[:limit]], "more": len(records) > limit}


def poll_job(services: Services, request: Request) -> dict[str, Any]:
    """The job, its reports after number ``cursor`` (−1: all), samples after ``sample_step``."""
    record = visible_job(services, request)
    cursor = field(request, "cursor", int)
    with naming_damage("This job"):
        rows = services.store.jobs.metrics(record.id, after=cursor, limit=METRICS_PER_POLL + 1)
        page = rows[:METRICS_PER_POLL]
        samples = services.store.jobs.samples(record.id)
        is_train, seen = record.kind == "train", request.get("sample_step")
        is_news = is_train and bool(samples) and samples[-1].get("step") != seen
        return {
            "job": job_view(record, has_kept=runner.has_kept_work(services.data_dir, record.id)),
            "metrics": page,
            "cursor": page[-1]["seq"] if page else cursor,
            "more": len(rows) > METRICS_PER_POLL,
            "samples": json_safe(samples) if is_news else None,
            "partial": json_safe(samples[-1]) if samples and not is_train else None,
        }


def pause_job(services: Services, request: Request) -> dict[str, Any]:
    """Ask for a checkpoint and release of the worker."""
    services.store.jobs.request_pause(visible_job(services, request).id)
    return {}


def cancel_job(services: Services, request: Request) -> dict[str, Any]:
    """Ask for the job's end; its last checkpoint is kept."""
    services.store.jobs.request_cancel(visible_job(services, request).id)
    return {}


def resume_job(services: Services, request: Request) -> dict[str, Any]:
    """Queue a job again; it goes on from its last checkpoint."""
    check_jobs_allowed(services)
    job = visible_job(services, request)
    with admitted_job(services, job.owner, job.id):
        services.store.jobs.resume(job.id)
    return {}


def delete_job(services: Services, request: Request) -> dict[str, Any]:
    """Delete an ended job, its reports, folder and log for good; a policy that it made stays."""
    record = visible_job(services, request)
    if not job_row(record)["can_delete"]:
        raise RequestError("This job is still queued or running. Cancel it first, then delete it.")
    runner.delete_job(services.store.jobs, services.data_dir, record.id)
    return {}


def job_row(record: JobRecord) -> dict[str, Any]:
    stops = record.status == "running" and record.control != "run"
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
        "can_pause": record.status in _LIVE and not stops,
        "can_resume": record.status in RESUMABLE_STATUSES or (stops and record.control == "pause"),
        "can_cancel": record.status in (*_LIVE, "paused") and record.control != "cancel",
        "can_delete": record.status not in _LIVE,
    }


def job_view(record: JobRecord, *, has_kept: bool) -> dict[str, Any]:
    """Collect all of a job besides metrics and result; a ``live`` one changes without the user.

    ``has_kept``: work from which it would go on.
    """
    is_early = record.status == "cancelled" and not has_kept
    return job_row(record) | {
        "live": record.status in _LIVE,
        "message": _STOPPING.get(record.control, record.message),
        "error": record.damage or record.error,
        "advice": _ADVICE.get("cancelled early" if is_early else record.status),
        "has_kept": has_kept,
        "texts_to_label": _texts_to_label(record),
        "expected_s": _expected_s(record),
        "log_file": record.log_file,
        "model": str(record.params.get("model", "")),
        "result": json_safe(record.result) if record.kind == "train" else None,
        "verdict": _training_verdict(record),
        "started_at": record.started_at and iso(record.started_at),
        "finished_at": record.finished_at and iso(record.finished_at),
    }


def _texts_to_label(record: JobRecord) -> int | None:
    """Count the texts that a training labels at most; None of another job."""
    value: Any = record.params
    for name in ("config", "warm_start", "texts"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) else None


def _expected_s(record: JobRecord) -> float | None:
    """Estimate of a whole training with a preset's settings; None of another job."""
    with suppress(SolError, KeyError, TypeError):  # settings of another release
        config = from_json(TrainConfig, record.params["config"])
        for name, preset in PRESETS.items():
            if config == replace(preset, corpus=config.corpus):
                return 60 * NOMINAL_MINUTES[name]
    return None


def _training_verdict(record: JobRecord) -> dict[str, str] | None:
    """A finished training's verdict on its policy, as of its last report."""
    result = (record.result or {}) if record.kind == "train" else {}
    held_out = result.get("summary", {}).get("held_out")
    return held_out and verdict_record(training_verdict(str(result.get("policy")), held_out))


def _status_label(record: JobRecord) -> str:
    if record.damage is not None:
        return "Damaged"
    if record.status == "running" and record.control in ("pause", "cancel"):
        return "Pausing" if record.control == "pause" else "Cancelling"
    return "Finished" if record.status == "succeeded" else record.status.capitalize()


JOB_HANDLERS = by_name(list_jobs, poll_job, pause_job, cancel_job, resume_job, delete_job)
