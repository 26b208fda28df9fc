"""Finds jobs whose worker died. Runs beside the page and in every worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.host.process_identity import is_worker_alive
from storage import JobRecord, JobStore, StorageError

REAP_S = 5.0
# Only where the worker's process cannot be looked up: on another machine.
STALE_S = 20.0

logger = logging.getLogger(__name__)


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
