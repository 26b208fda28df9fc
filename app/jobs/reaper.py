"""Finds jobs whose worker died. Runs beside the page and in every worker."""

from __future__ import annotations

import logging
import threading

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


class Reaper:
    """Reaps every few seconds; a database that was out of reach is left alone for ``silence_s``."""

    def __init__(
        self, jobs: JobStore, interval_s: float = REAP_S, silence_s: float = STALE_S / 2
    ) -> None:
        self._jobs, self._interval_s, self._silence_s = jobs, interval_s, silence_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="job-reaper", daemon=True)

    def start(self) -> None:
        """Begin, with a first look at once."""
        self._thread.start()

    def stop(self) -> None:
        """End before the store is closed."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._ending.is_set():
            wait_s = self._interval_s
            try:
                reap(self._jobs)
            except StorageError as error:  # the next look may work
                logger.info("no look at the workers: %s", error)
                # A server that comes back has heard of nobody: let every worker speak first.
                wait_s = max(wait_s, self._silence_s)
            self._ending.wait(wait_s)
