"""Writes the events of live runs to the database, in batches, off the generating thread.

A slow or failing disk delays nothing and loses nothing quietly: the rows wait here, the reason
is shown on the page, and every tick tries again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from storage import RunStatus, RunStore

__all__ = ["RunSaver", "SavedRun"]

logger = logging.getLogger(__name__)
TICK_S = 0.5


@dataclass(slots=True)
class SavedRun:
    """Parts of one run that are not in the database yet.

    Attributes:
        ending: (status, summary, error) once the run has ended.
        problem: why the last attempt failed; None when nothing is wrong.
        done: everything, the ending included, has been written.
    """

    run_id: str
    prefill: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    ending: tuple[RunStatus, dict[str, Any] | None, str | None] | None = None
    problem: str | None = None
    done: bool = False


class RunSaver:
    """One thread that flushes every known run each half second.

    Args:
        store: where the runs are kept.
        on_tick: called once per tick, after the flush.
    """

    def __init__(self, store: RunStore, on_tick: Callable[[], None]) -> None:
        self._store = store
        self._on_tick = on_tick
        self._runs: dict[str, SavedRun] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="run-saver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, run: SavedRun) -> None:
        """Save this run from now on, until it is done or dropped."""
        with self._lock:
            self._runs[run.run_id] = run

    def add_rows(self, run: SavedRun, rows: list[dict[str, Any]]) -> None:
        with self._lock:
            run.rows.extend(rows)

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

    def wake(self) -> None:
        """Flush soon instead of at the next tick."""
        self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Flush a last time and end the thread."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(TICK_S)
            self._wake.clear()
            self.flush()
            self._on_tick()
        self.flush()

    def _flush(self, run: SavedRun) -> None:
        if run.done:
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

    def _write(self, run: SavedRun, rows: list[dict[str, Any]]) -> None:
        ending = run.ending
        if run.prefill is not None:
            self._store.set_prefill(run.run_id, run.prefill)
            run.prefill = None
        if rows:
            self._store.append_events(run.run_id, rows)
            rows.clear()
        if ending is not None and not run.rows:
            self._store.finish(run.run_id, *ending)
            run.done = True
            self.drop(run.run_id)
