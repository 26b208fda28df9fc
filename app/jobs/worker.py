"""The worker: takes one queued job after another until it is told to end.

A signal asks the running job for a checkpoint and queues it again. A supervised worker holds a
lock that keeps it single, and ends when its page was killed and nothing is left to do. Every
worker, and the page beside its own, also looks for jobs whose worker died.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from app.host.database import open_database
from app.host.interrupts import StopFlag, set_by_signals
from app.host.paths import DataDir
from app.host.processes import is_worker_alive, own_worker_id, process_exists, read_note, write_note
from app.jobs.engines import ENGINES
from app.jobs.runner import JobFunctions, JobResources, patiently, run_job
from sol_core.card_errors import give_memory_back
from sol_core.errors import CardLostError
from storage import DatabaseLockedError, DatabaseWriteError, JobRecord, JobStore, StorageError

EXIT_NOT_NEEDED = 3  # another supervised worker is at work
EXIT_CARD_LOST = 4  # only a new process can use the GPU again
LOCK_WAIT_S = 1.5  # whoever only looks at the lock holds it for an instant
REAP_S = 5.0
# Only where the worker's process cannot be looked up: on another machine.
STALE_S = 20.0

logger = logging.getLogger(__name__)


def run_worker(
    data_dir: DataDir,
    engines: JobFunctions = ENGINES,
    *,
    dtype: str = "auto",
    is_supervised: bool = False,
    poll_s: float = 1.0,
    lonely_s: float = 60.0,  # that an idle supervised worker outlives its page
    busy_timeout_s: float = 10.0,
    time_limit_s: float = math.inf,
) -> int:
    """Work until a signal says to end, in the main thread; returns the exit status."""
    stop = StopFlag()
    with ExitStack() as opened:
        opened.enter_context(set_by_signals(stop))
        if is_supervised and not _hold_lock(data_dir.worker_lock_file, opened):
            return EXIT_NOT_NEEDED
        opening = partial(open_database, data_dir, busy_timeout_s=busy_timeout_s)
        store = opened.enter_context(patiently(opening, stop.is_set))
        opened.enter_context(reaping(store.jobs))
        resources = JobResources(
            store.jobs, data_dir, own_worker_id(), stop, dtype, time_limit_s=time_limit_s
        )
        return _serve_the_queue(resources, engines, poll_s, lonely_s if is_supervised else math.inf)


def read_holder(lock_file: Path) -> str | None:
    """The id of the worker that took the lock last; it may be dead."""
    worker = read_note(lock_file).get("worker")
    return worker if isinstance(worker, str) else None


def _serve_the_queue(
    resources: JobResources, engines: JobFunctions, poll_s: float, lonely_s: float
) -> int:
    """Work until there is a reason to end; returns the exit status."""
    alone_since: float | None = None
    while not resources.stop.is_set():
        job = _claim(resources.jobs, resources.worker)
        if job is not None:
            outcome = run_job(job, engines.get(job.kind), resources)
            give_memory_back()  # the page's model may need it
            if isinstance(outcome.reason, CardLostError):
                logger.warning("this worker ends: %s", outcome.reason)
                return EXIT_CARD_LOST
            alone_since = None
            continue
        page = read_note(resources.data_dir.lock_file).get("pid")
        is_served = isinstance(page, int) and process_exists(page)
        alone_since = None if is_served else alone_since or time.monotonic()
        if alone_since is not None and time.monotonic() - alone_since > lonely_s:
            logger.info("the page is gone and nothing is queued")
            return 0
        resources.stop.wait(poll_s)
    return 0


def _claim(jobs: JobStore, worker: str) -> JobRecord | None:
    try:
        return jobs.claim(worker)
    except (DatabaseLockedError, DatabaseWriteError) as error:
        logger.warning("the queue could not be read: %s", error)
        return None


def _hold_lock(path: Path, opened: ExitStack) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_WAIT_S, poll_interval=0.1)
    except Timeout:
        return False
    opened.callback(lock.release)
    write_note(path, {"worker": own_worker_id()})
    return True


def reap(jobs: JobStore) -> list[JobRecord]:
    """Take running jobs from dead workers; return them as they are now. Raises: StorageError."""
    abandoned = list(jobs.abandon_stale(STALE_S, is_worker_alive))
    for job in abandoned:
        logger.warning("the worker of job %s is gone: the job is %s now", job.id, job.status)
    return abandoned


@contextmanager
def reaping(
    jobs: JobStore, interval_s: float = REAP_S, silence_s: float = STALE_S / 2
) -> Iterator[None]:
    """Reap at once and every few seconds, after an error of the database later."""
    ending = threading.Event()

    def work() -> None:
        while not ending.is_set():
            wait_s = interval_s
            try:
                reap(jobs)
            except StorageError as error:  # the next look may work
                logger.info("no look at the workers: %s", error)
                # A server that comes back has heard of nobody: let every worker speak first.
                wait_s = max(wait_s, silence_s)
            ending.wait(wait_s)

    thread = threading.Thread(target=work, name="job-reaper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
