"""Writes live runs and their events to the database, in batches, off the generating thread.

A slow or failing disk delays nothing and loses nothing quietly: the rows wait here, the reason
is shown on the page, and every tick tries again. The page is given what has been written, so
that a kill takes back nothing that was shown; only while writing fails or is late, it is given
everything, with a warning.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from storage import RunStatus, RunStore

logger = logging.getLogger(__name__)
TICK_S = 0.5
LATE_S = 1.0  # one batch takes milliseconds


@dataclass(slots=True)
class SavedRun:
    """Parts of one run that are not in the database yet.

    Attributes:
        create: makes the run there, once; None when it is there.
        num_written: rows that are in the database.
        ending: (status, summary, error) once the run has ended.
        problem: why the last attempt failed; None when nothing is wrong.
        done: everything, the ending included, has been written.
        behind_since: when the oldest of what waits came, ``time.monotonic()``; None when
            nothing waits.
    """

    run_id: str
    create: Callable[[], object] | None
    prefill: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    num_written: int = 0
    ending: tuple[RunStatus, dict[str, Any] | None, str | None] | None = None
    problem: str | None = None
    done: bool = False
    behind_since: float | None = field(default_factory=time.monotonic)

    def is_late(self) -> bool:
        """Return whether something has waited for so long that the page does not wait for it."""
        since = self.behind_since
        return since is not None and time.monotonic() - since > LATE_S


class RunSaver:
    """One thread that flushes every known run each half second, and when it is woken.

    Args:
        store: where the runs are kept.
        on_tick: called twice a second, after a flush.
    """

    def __init__(self, store: RunStore, on_tick: Callable[[], None]) -> None:
        self._store = store
        self._on_tick = on_tick
        self._runs: dict[str, SavedRun] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._flushed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="run-saver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, run: SavedRun) -> None:
        """Save this run from now on, until it is done or dropped."""
        with self._lock:
            self._runs[run.run_id] = run
        self._wake.set()

    def set_prefill(self, run: SavedRun, prefill: dict[str, Any]) -> None:
        with self._lock:
            run.prefill = prefill
            run.behind_since = run.behind_since or time.monotonic()

    def add_row(self, run: SavedRun, row: dict[str, Any]) -> None:
        with self._lock:
            run.rows.append(row)
            run.behind_since = run.behind_since or time.monotonic()

    def end(
        self, run: SavedRun, status: RunStatus, summary: dict[str, Any] | None, error: str | None
    ) -> None:
        """Write the ending after everything else, soon."""
        with self._lock:
            run.ending = (status, summary, error)
            run.behind_since = run.behind_since or time.monotonic()
        self._wake.set()

    def catch_up(self, run: SavedRun, patience_s: float) -> None:
        """Have what waits now written at once; return when it is, or fails, or time is up."""
        with self._lock:
            if run.behind_since is None:
                return
            target = run.num_written + len(run.rows)
            has_ending = run.ending is not None

        def is_over() -> bool:
            is_there = run.create is None and run.num_written >= target
            return run.problem is not None or (is_there and (run.done or not has_ending))

        with self._flushed:
            self._wake.set()
            self._flushed.wait_for(is_over, patience_s)

    def drop(self, run_id: str) -> None:
        """Forget a run, written or not."""
        with self._lock:
            self._runs.pop(run_id, None)

    def flush(self) -> None:
        """Write everything that is waiting; failures are kept in ``SavedRun.problem``."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            self._flush(run)

    def close(self, timeout_s: float) -> None:
        """Flush a last time and end the thread."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        ticked_at = time.monotonic()
        while not self._closing:
            self._wake.wait(TICK_S)
            self._wake.clear()
            self.flush()
            with self._flushed:
                self._flushed.notify_all()
            if time.monotonic() - ticked_at >= TICK_S:
                ticked_at = time.monotonic()
                self._on_tick()
        self.flush()

    def _flush(self, run: SavedRun) -> None:
        if run.done:
            return
        if run.behind_since is None:
            return
        with self._lock:
            rows, run.rows = run.rows, []
        try:
            self._write(run, rows)
        except Exception as error:  # whatever the disk does, the run goes on and the user is told
            if run.problem is None:
                logger.exception("run %s could not be saved", run.run_id)
            run.problem = str(error) or type(error).__name__
            with self._lock:
                run.rows = rows + run.rows
        else:
            run.problem = None
            with self._lock:
                is_behind = bool(run.rows) or (run.ending is not None and not run.done)
                run.behind_since = time.monotonic() if is_behind else None

    def _write(self, run: SavedRun, rows: list[dict[str, Any]]) -> None:
        ending = run.ending
        if run.create is not None:
            run.create()
            run.create = None
        if run.prefill is not None:
            self._store.set_prefill(run.run_id, run.prefill)
            run.prefill = None
        if rows:
            self._store.append_events(run.run_id, rows)
            run.num_written += len(rows)
            rows.clear()
        if ending is not None and not run.rows:
            self._store.finish(run.run_id, *ending)
            run.done = True
            self.drop(run.run_id)
