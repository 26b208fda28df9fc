"""Carries a running job's progress to its row, and the user's wishes back.

A thread beats every second, so that a long step does not look like death. A report is saved before
the work goes on, but a locked database holds nothing up: reports are queued.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from app.formats import json_safe
from storage import JobControl, JobRecord, JobStore, errors

BEAT_S = 1.0  # at least this often the row shows a sign of life
SAVE_WAIT_S = 0.5  # how long work waits for its report to be saved; one row takes milliseconds
_RETRY_S = 0.2

logger = logging.getLogger(__name__)


class JobReporter:
    """The way between a job's work and its row; it ``is_lost`` once another worker has the job."""

    def __init__(self, jobs: JobStore, job: JobRecord, worker: str, log_file: str) -> None:
        self.control: JobControl = "run"
        self.is_lost = False
        self._jobs, self._job_id, self._worker = jobs, job.id, worker
        self._progress, self._message = job.progress, "Starting"
        self._eta_s: float | None = None
        self._log_file: str | None = log_file
        self._rows: list[dict[str, Any]] = []
        self._sample: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self._saved = threading.Event()
        self._is_slow = False  # the database: nobody waits for it until it answers again
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="job-reporter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def say(self, message: str) -> None:
        """Show what is being done; the progress stays."""
        with self._lock:
            self._message = message
        self._news.set()

    def progress(
        self, fraction: float, message: str, eta_s: float | None, row: dict[str, Any] | None
    ) -> None:
        """Take a report; returns once it is saved, or soon. NaN and infinities become None."""
        fraction, eta_s = json_safe(fraction), json_safe(eta_s)
        with self._lock:
            self._progress = self._progress if fraction is None else fraction
            self._message, self._eta_s = message, eta_s
            if row is not None:
                self._rows.append(json_safe(row))
                self._saved.clear()
        self._news.set()
        if row is not None and not self._is_slow:
            self._is_slow = not self._saved.wait(SAVE_WAIT_S)

    def sample(self, record: dict[str, Any]) -> None:
        """Take a sample; a newer one replaces it while it waits to be saved."""
        with self._lock:
            self._sample = json_safe(record)
        self._news.set()

    def stop(self) -> None:
        """End the thread. What it could not save is left for ``flush``."""
        self._closing.set()
        self._news.set()
        if self._thread.ident is not None:
            self._thread.join()

    def flush(self) -> None:
        """Save what waits and beat once. Raises: StorageError, and then nothing is forgotten."""
        if self.is_lost:
            return
        with self._lock:
            rows, sample = list(self._rows), self._sample
            beat = (self._progress, self._message, self._eta_s)
        try:
            if self._log_file is not None:
                self._jobs.set_log_file(self._job_id, self._log_file)
                self._log_file = None
            if rows:
                self._save(lambda: self._jobs.append_metrics(self._job_id, rows))
                with self._lock:
                    del self._rows[: len(rows)]
                    if not self._rows:
                        self._saved.set()
                self._is_slow = False
            if sample is not None:
                self._save(lambda: self._jobs.set_sample(self._job_id, sample))
                with self._lock:
                    self._sample = None if self._sample is sample else self._sample
            self.control = self._jobs.heartbeat(self._job_id, self._worker, *beat)
        except (errors.JobStateError, errors.NotFoundError) as error:
            logger.warning("stopping: %s", error)
            self.is_lost = True
            self._saved.set()

    def _save(self, call: Any) -> None:
        try:
            call()
        except errors.InvalidRecordError as error:  # saying it again would not help
            logger.warning("a report was left out: %s", error)

    def _work(self) -> None:
        is_waiting = False
        while not self._closing.is_set():
            try:
                self.flush()
                is_waiting = False
            except errors.StorageError as error:
                if not is_waiting:
                    logger.warning("progress waits for the database: %s", error)
                is_waiting = True
                self._closing.wait(_RETRY_S)
            self._news.wait(BEAT_S)
            self._news.clear()
