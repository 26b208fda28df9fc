"""Runs one claimed job to its end: engine, reports, log file, and the ending in its row."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from filelock import FileLock, Timeout

from app.formats import json_safe
from app.host.errors import AppError
from app.host.interrupts import StopFlag
from app.host.paths import DataDir
from app.jobs.reporter import JobReporter
from sol_core.card_errors import card_error, give_memory_back
from sol_core.errors import CardLostError, SolError
from sol_core.progress import WorkEvent, WorkFinished, WorkProgress, WorkSample, WorkStopped
from storage import JobRecord, JobStatus, JobStore, errors

FOLDER_WAIT_S = 15.0  # for a predecessor that was taken for dead: it stops at its next beat
FINAL_SAVE_TIMEOUT_S = 20.0  # how long a worker that is to end waits for the database
CARD_LOST_NAME = "card-lost"  # in the folder of a job whose worker had to end
RETRY_S, REMIND_S = 0.5, 60.0  # of a database that cannot be written
_LOCK_WAIT_S = 0.2
T = TypeVar("T")
_LOGGED_PACKAGES = (__name__.rpartition(".")[0], "sol_core")

logger = logging.getLogger(__name__)
RESERVED_FILE = ".reserved"
RESERVED_BYTES = 1_000_000  # for the last rows and the ending, which take some 10 KB
WANTED_MB = 500  # what the labels and checkpoints of a standard training take, and some more


@dataclass(frozen=True, slots=True)
class JobTask:
    """A start of a job."""

    job: JobRecord
    folder: Path  # the job's own; what an earlier start left in it is there again
    data_dir: DataDir
    dtype: str  # of the model's weights, where the job does not say
    should_stop: Callable[[], bool]  # at its next step, with a checkpoint
    say: Callable[[str], None]  # where nothing can be yielded


JobUpdate = str | WorkEvent  # a text is about the work before there is progress to report
JobFunction = Callable[[JobTask], Generator[WorkEvent, None, None]]
JobFunctions = Mapping[str, JobFunction]  # by the kind of job


@dataclass(frozen=True, slots=True)
class JobResources:
    """Resources that a worker brings to every job."""

    jobs: JobStore
    data_dir: DataDir
    worker: str  # its id
    stop: StopFlag = field(default_factory=StopFlag)  # set when the worker is to end
    dtype: str = "auto"
    released_as: Literal["queued", "paused"] = "queued"  # what a job is then let go as
    on_update: Callable[[JobUpdate], None] = lambda update: None  # after it was taken
    time_limit_s: float = math.inf  # a job that works longer at a stretch fails


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """Status, None for a job that another worker has, and message with which a job ends."""

    status: JobStatus | None
    result: dict[str, Any] | None = None
    error: str | None = None
    reason: Exception | None = None


def log_path(data_dir: DataDir, job_id: str) -> Path:
    return data_dir.logs / f"job-{job_id}.log"


def has_kept_work(data_dir: DataDir, job_id: str) -> bool:
    """Return whether a job has a checkpoint, or finished texts, from which it would go on."""
    return any((data_dir.jobs / job_id).rglob("*.safetensors"))


def delete_job(jobs: JobStore, data_dir: DataDir, job_id: str) -> None:
    """Delete the job, its folder and log; on a full disk the files first, which make room."""
    try:
        jobs.delete(job_id)
    except errors.DatabaseWriteError:
        if jobs.get(job_id).status == "running":
            raise
        _delete_files(data_dir, job_id)
        jobs.delete(job_id)
    _delete_files(data_dir, job_id)


def _delete_files(data_dir: DataDir, job_id: str) -> None:
    shutil.rmtree(data_dir.jobs / job_id, ignore_errors=True)
    log_path(data_dir, job_id).unlink(missing_ok=True)


def run_job(job: JobRecord, function: JobFunction | None, resources: JobResources) -> JobOutcome:
    """Run a job that this worker has claimed; its row says how it ended. Raises: StorageError."""
    log_file = log_path(resources.data_dir, job.id)
    reporter = JobReporter(resources.jobs, job, resources.worker, str(log_file))
    with _logging_to(log_file):
        logger.info("job %s (%s) begins: %s", job.id, job.kind, job.params)
        reporter.start()
        try:
            outcome = _work(job, function, resources, reporter)
        finally:
            reporter.stop()
        outcome = _save_ending(job, outcome, resources, reporter)
        logger.info("job %s ends: %s", job.id, outcome.status or "taken by another worker")
    return outcome


def _work(
    job: JobRecord, function: JobFunction | None, resources: JobResources, reporter: JobReporter
) -> JobOutcome:
    ends_at = time.monotonic() + resources.time_limit_s

    def is_released() -> bool:
        return resources.stop.is_set() or reporter.control != "run" or reporter.is_lost

    def should_stop() -> bool:
        return is_released() or time.monotonic() > ends_at

    folder, say = resources.data_dir.jobs / job.id, partial(_take, resources, reporter)
    task = JobTask(job, folder, resources.data_dir, resources.dtype, should_stop, say)
    try:
        if function is None:
            raise AppError(f"this release cannot run a job of kind {job.kind!r}")
        if job.damage is not None:
            raise AppError(job.damage)
        lock = _lock_folder(folder, should_stop)
        if lock is None:
            return JobOutcome(resources.released_as)
        try:
            with reserved_room(folder), closing(function(task)) as updates:
                outcome = _follow(updates, task, resources, reporter)
            is_cut = outcome.status != "succeeded" and time.monotonic() > ends_at
            if is_cut and not is_released():
                raise AppError(
                    f"a job works for {resources.time_limit_s / 60:,.4g} minutes at a stretch on "
                    "this server, and they are over. Its checkpoint is kept: resume it, and it "
                    "goes on from there when it is its turn"
                )
            return outcome
        finally:
            lock.release()
    except Exception as error:  # a bug ends the job, not the worker
        logger.info("job %s failed", job.id, exc_info=True)
        return _failure(error, folder, resources)


def _failure(error: Exception, folder: Path, resources: JobResources) -> JobOutcome:
    """The outcome of an error. A job that lost its card waits for a new worker; once."""
    if isinstance(error, SolError):
        return JobOutcome("failed", error=str(error), reason=error)
    known = card_error(error)
    give_memory_back(error)
    if isinstance(known, CardLostError) and not (folder / CARD_LOST_NAME).exists():
        (folder / CARD_LOST_NAME).touch()
        return JobOutcome(resources.released_as, reason=known)
    if known is not None:
        return JobOutcome("failed", error=str(known), reason=known)
    message = f"The job failed: {type(error).__name__}: {error}. Its log file says more."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        root = resources.data_dir.root
        message = (
            f"The disk is full ({shutil.disk_usage(root).free / 1e6:.0f} MB are left): free at "
            f"least {WANTED_MB} MB in {root} and press Resume. The job goes on from its last "
            "checkpoint."
        )
    return JobOutcome("failed", error=message, reason=error)


def _follow(
    updates: Iterator[WorkEvent], task: JobTask, resources: JobResources, reporter: JobReporter
) -> JobOutcome:
    for update in updates:
        _take(resources, reporter, update)
        if isinstance(update, WorkFinished):
            return JobOutcome("succeeded", result=json_safe(update.result))
        if isinstance(update, WorkStopped):
            return JobOutcome(resources.released_as)
    if task.should_stop():
        return JobOutcome(resources.released_as)
    raise AppError("the engine ended without a result")


def _take(resources: JobResources, reporter: JobReporter, update: JobUpdate) -> None:
    if isinstance(update, str):
        reporter.say(update)
    elif isinstance(update, WorkProgress):
        reporter.progress(update.fraction, update.message, update.eta_s, update.row)
    elif isinstance(update, WorkSample):
        reporter.sample(update.record)
    resources.on_update(update)


def _save_ending(
    job: JobRecord, outcome: JobOutcome, resources: JobResources, reporter: JobReporter
) -> JobOutcome:
    """Save every report, then the ending."""
    ends_at: list[float] = []

    def gives_up() -> bool:
        if resources.stop.is_set() and not ends_at:
            ends_at.append(time.monotonic() + FINAL_SAVE_TIMEOUT_S)
        return bool(ends_at) and time.monotonic() > ends_at[0]

    def finish() -> JobRecord:
        status = outcome.status or resources.released_as
        return resources.jobs.finish(
            job.id, resources.worker, status, outcome.result, outcome.error
        )

    patiently(reporter.flush, gives_up)
    if reporter.is_lost:
        return replace(outcome, status=None)
    try:
        return replace(outcome, status=patiently(finish, gives_up).status)
    except (errors.JobStateError, errors.NotFoundError) as error:
        logger.warning("the ending was not saved: %s", error)
        return replace(outcome, status=None)


def _lock_folder(folder: Path, should_stop: Callable[[], bool]) -> FileLock | None:
    """Keep every other process out of the job's folder; None when the job is to stop first."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    gives_up_at = time.monotonic() + FOLDER_WAIT_S
    while True:
        try:
            lock.acquire(timeout=_LOCK_WAIT_S)
            return lock
        except Timeout as error:
            if should_stop():
                return None
            if time.monotonic() > gives_up_at:
                raise AppError(
                    f"another process still works in {folder}: end it, or wait until it has "
                    "ended, and resume"
                ) from error


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Write what is logged meanwhile to the job's file too, if it can be made."""
    handler: logging.Handler = logging.NullHandler()
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        logger.warning("the job has no log: %s", error)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    with ExitStack() as undo:
        undo.callback(handler.close)
        for other in root.handlers:  # the terminal and the page's log keep to warnings
            undo.callback(other.setLevel, other.level)
            other.setLevel(max(other.level, logging.WARNING))
        for talkative in map(logging.getLogger, _LOGGED_PACKAGES):
            undo.callback(talkative.setLevel, talkative.level)
            talkative.setLevel(logging.INFO)
        undo.callback(root.removeHandler, handler)
        root.addHandler(handler)
        yield


@contextmanager
def reserved_room(folder: Path) -> Iterator[None]:
    """Hold some of the disk, so that a job that fails on a full one can save its own ending."""
    path = folder / RESERVED_FILE
    try:
        path.write_bytes(os.urandom(RESERVED_BYTES))  # which no file system can compress
        yield
    finally:
        path.unlink(missing_ok=True)


def patiently(call: Callable[[], T], gives_up: Callable[[], bool] = lambda: False) -> T:
    """Return ``call()``, tried again while the database cannot be written, unless ``gives_up``."""
    told_at = -REMIND_S
    while True:
        try:
            return call()
        except (errors.DatabaseLockedError, errors.DatabaseWriteError) as error:
            if gives_up():
                raise
            if time.monotonic() - told_at >= REMIND_S:
                logger.warning("waiting for the database: %s", error)
                told_at = time.monotonic()
        time.sleep(RETRY_S)
