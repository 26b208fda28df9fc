"""Python calls of every page with jobs: lists, one job with its reports, pause and cancel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.formats.plain_json import json_safe
from app.host.damage import naming_damage
from app.host.errors import AppError
from app.host.hosting import is_zero_gpu
from app.host.limits import Holder, Shares
from app.jobs import runner
from app.pages.shared.job_views import JOB_KINDS, job_row, job_view
from app.results.shipped import SHIPPED, TITLE, shipped_record
from app.web.calls import Request, RequestError, by_name, choice, field, owner_of
from app.web.services import Services
from sol_core.errors import SolError
from storage import JobKind, JobRecord, NotFoundError

METRICS_PER_POLL = 500
MAX_LIMIT = 100
JOBS = Shares("jobs queued or running", of_visitor=20, remedy="Cancel some, or wait.")


class JobsRefusedError(AppError, RuntimeError):
    """This server starts no jobs for its visitors."""


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
    """Raises: JobsRefusedError on a shared server whose owner has not allowed jobs."""
    if reason := refusal(services):
        raise JobsRefusedError(reason)


def job_page_home(services: Services, request: Request, kind: JobKind) -> dict[str, Any]:
    """Return the start data of a page with jobs of a kind: the newest own job, what is allowed."""
    owner = owner_of(request) if services.is_shared else None
    newest = services.store.jobs.list(owner=owner, kind=kind, limit=1)
    return {
        "jobs_allowed": services.jobs_allowed,
        "refusal": refusal(services),
        "model": services.loader.status().name,
        "newest_job": newest[0].id if newest else None,
    }


def queue_job(
    services: Services, owner: str, kind: JobKind, title: str, params: dict[str, Any]
) -> dict[str, Any]:
    """Queue a job on the page's model; the answer has its id. Raises: AppError beyond the limit."""
    most = JOBS.of_visitor
    waiting = services.store.jobs.list(owner=owner, statuses=("queued", "running"), limit=most)
    JOBS.check((Holder(owner, None) for _ in waiting), owner, None)
    params = params | {"model": services.loader.status().name}
    return {"job_id": services.store.jobs.create(kind, owner, title, params).id}


@contextmanager
def reusing_settings(what: str) -> Iterator[None]:
    """Turn what is wrong with a saved job's settings into one RequestError."""
    try:
        yield
    except (SolError, KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"The settings of {what} cannot be used here ({error}). It was made by another release."
        ) from error


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


def finished_result(
    services: Services, request: Request, kind: JobKind, none: str
) -> tuple[str, dict[str, Any]]:
    """Title and result of the finished job that the request names, or of what ships.

    Raises: RequestError as ``visible_job``; with the words ``none`` for a job without a result.
    """
    if field(request, "job_id", str) == SHIPPED:
        return TITLE, shipped_record(kind)["result"]
    record = visible_job(services, request)
    if record.kind != kind or record.result is None:
        raise RequestError(none)
    return record.title, record.result


def list_jobs(services: Services, request: Request) -> dict[str, Any]:
    """The newest jobs, on a shared server only the visitor's own; ``more``: there are others."""
    owner, kind = owner_of(request), choice(request, "kind", JOB_KINDS)
    limit = min(max(field(request, "limit", int), 1), MAX_LIMIT)
    records = services.store.jobs.list(
        owner=owner if services.is_shared else None, kind=kind, limit=limit + 1
    )
    return {"jobs": [job_row(record) for record in records[:limit]], "more": len(records) > limit}


def poll_job(services: Services, request: Request) -> dict[str, Any]:
    """The job, its reports after number ``cursor`` (−1: all), its newest samples.

    The request's ``sample_step`` is of the newest sample that the page has, or null.
    """
    record = visible_job(services, request)
    with naming_damage("This job"):
        return _state_of(services, record, request)


def _state_of(services: Services, record: JobRecord, request: Request) -> dict[str, Any]:
    cursor = field(request, "cursor", int)
    rows = services.store.jobs.metrics(record.id, after=cursor, limit=METRICS_PER_POLL + 1)
    page = rows[:METRICS_PER_POLL]
    samples = services.store.jobs.samples(record.id)
    is_train = record.kind == "train"
    is_news = is_train and bool(samples) and samples[-1].get("step") != request.get("sample_step")
    return {
        "job": job_view(record),
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
    """Put a job back in line; it goes on from its last checkpoint."""
    check_jobs_allowed(services)
    services.store.jobs.resume(visible_job(services, request).id)
    return {}


def delete_job(services: Services, request: Request) -> dict[str, Any]:
    """Delete an ended job, its reports, folder and log for good; a policy that it made stays."""
    record = visible_job(services, request)
    if not job_row(record)["can_delete"]:
        raise RequestError("This job is still queued or running. Cancel it first, then delete it.")
    runner.delete_job(services.store.jobs, services.data_dir, record.id)
    return {}


JOB_HANDLERS = by_name(list_jobs, poll_job, pause_job, cancel_job, resume_job, delete_job)
