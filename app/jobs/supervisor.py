"""Keeps one worker alive beside the page, in a session of its own.

Killing the page leaves the worker and its job running; the next page finds it by its lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from app.host.hosting import program_command
from app.host.paths import DataDir
from app.host.processes import is_worker_alive, process_id_of
from app.jobs.worker import EXIT_NOT_NEEDED, read_holder

LOOK_S = 1.0
GRACE_S = 60.0  # for a unit of work and a checkpoint; 27 s were seen on a busy machine
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 60.0  # between a worker's death and the next start
LOG_NAME, LOG_BYTES = "worker.log", 2_000_000

logger = logging.getLogger(__name__)


def worker_command(data_dir: DataDir, dtype: str) -> list[str]:
    options = ["--supervised", "--data-dir", str(data_dir.root), "--dtype", dtype]
    return [*program_command(), "worker", *options]


class WorkerSupervisor:
    """Starts a worker by ``command``, starts another when it dies, ends it with the page."""

    def __init__(
        self,
        data_dir: DataDir,
        command: Sequence[str],
        look_s: float = LOOK_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self._data_dir, self._command = data_dir, list(command)
        self._look_s, self._grace_s = look_s, grace_s
        self._child: subprocess.Popen[bytes] | None = None
        self._delay_s, self._started_at, self._next_start = FIRST_DELAY_S, 0.0, 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="worker-supervisor", daemon=True)

    def start(self) -> None:
        """Begin to watch, and start a worker unless one lives."""
        self._thread.start()

    def worker_pid(self) -> int | None:
        """The process id of the living worker, this page's or an earlier one's."""
        if self._child is not None and self._child.poll() is None:
            return self._child.pid
        worker = read_holder(self._data_dir.worker_lock_file)
        return process_id_of(worker) if worker and is_worker_alive(worker) else None

    def stop(self, on_wait: Callable[[], None] = lambda: None) -> None:
        """Ask the worker to checkpoint and end; kill it when it takes longer than ``grace_s``."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        pid = self.worker_pid()
        if pid is None:
            return
        _signal(pid, signal.SIGTERM)  # on Windows this ends it: the job resumes from its checkpoint
        try:
            if self._has_ended(pid, 1.0):
                return
            on_wait()
            if self._has_ended(pid, self._grace_s):
                return
            logger.warning("the worker did not end within %.0f s and is killed", self._grace_s)
        finally:  # a second Ctrl-C does not wait
            if not self._has_ended(pid, 0.0):
                _kill_group(pid)
                self._has_ended(pid, 5.0)

    def _watch(self) -> None:
        while not self._ending.is_set():
            self._look()
            self._ending.wait(self._look_s)

    def _look(self) -> None:
        if self._child is not None:
            status = self._child.poll()
            if status is None:
                return
            self._child = None
            self._plan_next_start(status)
        if time.monotonic() >= self._next_start and not _is_held(self._data_dir.worker_lock_file):
            self._start_worker()

    def _plan_next_start(self, status: int) -> None:
        if status not in (0, EXIT_NOT_NEEDED):
            logger.warning("the worker ended with status %d; see %s", status, self._log_path)
        lived_s = time.monotonic() - self._started_at
        self._delay_s = FIRST_DELAY_S if lived_s > LONGEST_DELAY_S else self._delay_s
        self._next_start = time.monotonic() + self._delay_s
        self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)

    def _start_worker(self) -> None:
        try:
            if self._log_path.exists() and self._log_path.stat().st_size > LOG_BYTES:
                self._log_path.replace(self._log_path.with_suffix(".log.1"))
            with self._log_path.open("ab") as log:  # a pipe that nobody reads would stall it
                self._child = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            logger.warning("no worker could be started: %s", error)
            self._plan_next_start(0)
            return
        self._started_at = time.monotonic()

    @property
    def _log_path(self) -> Path:
        return self._data_dir.logs / LOG_NAME

    def _has_ended(self, pid: int, seconds: float) -> bool:
        gives_up_at = time.monotonic() + seconds
        while self._is_running(pid):
            if time.monotonic() >= gives_up_at:
                return False
            time.sleep(0.05)
        return True

    def _is_running(self, pid: int) -> bool:
        if self._child is not None and self._child.pid == pid:
            return self._child.poll() is None
        return self.worker_pid() == pid


def _is_held(lock_file: Path) -> bool:
    """Return whether a supervised worker lives. Testing takes the lock for an instant."""
    try:
        with FileLock(lock_file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError as error:
        logger.warning("no look at %s: %s", lock_file, error)
        return True


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_group(pid: int) -> None:
    """End the worker and every process that it started."""
    if sys.platform == "win32":
        _signal(pid, signal.SIGTERM)  # ends it at once there
        return
    with contextlib.suppress(ProcessLookupError):
        # A worker that shares its group with somebody else is killed alone.
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
