"""The thread that writes runs and their events to the database.

They are written in batches, off the generating thread. A slow or failing disk delays nothing and
loses nothing quietly: the rows wait in the run, the reason is shown on the page, and every tick
tries again. The page is given what has been written, so that a kill takes back nothing that was
shown; only while writing fails or is late, it is given everything, with a warning.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import cast

from app.runs.live_run import LiveRun
from storage import RunStatus, RunStore

TICK_S = 0.5
logger = logging.getLogger(__name__)


class RunSaver:
    """One thread that flushes every run twice a second, then calls ``on_tick``, or when woken."""

    def __init__(self, store: RunStore, on_tick: Callable[[], None]) -> None:
        self._store = store
        self._on_tick = on_tick
        self._runs: dict[str, LiveRun] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._flushed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="run-saver", daemon=True)
        self._thread.start()

    def add(self, run: LiveRun) -> None:
        """Save this run from now on, until it is done or dropped."""
        with self._lock:
            self._runs[run.run_id] = run
        self._wake.set()

    def note(self, run: LiveRun) -> None:
        """Note that something of a run now waits to be saved; an ending is saved soon."""
        with self._lock:
            run.behind_since = run.behind_since or time.monotonic()
        if run.has_ended:
            self._wake.set()

    def catch_up(self, run: LiveRun, patience_s: float) -> None:
        """Have what waits now written at once; return when it is, or fails, or time is up."""
        if run.behind_since is None:
            return
        has_ended, target = run.has_ended, len(run.tokens)

        def is_over() -> bool:
            is_there = run.is_created and run.num_written >= target
            return run.problem is not None or (is_there and (run.is_done or not has_ended))

        with self._flushed:
            self._wake.set()
            self._flushed.wait_for(is_over, patience_s)

    def drop(self, run_id: str) -> None:
        """Save no more of a run."""
        with self._lock:
            self._runs.pop(run_id, None)

    def flush(self) -> None:
        """Write everything that is waiting; failures are kept in ``LiveRun.problem``."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            if run.behind_since is not None:
                self._flush(run)

    def close(self, timeout_s: float) -> None:
        """Write what waits, then end the thread."""
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

    def _flush(self, run: LiveRun) -> None:
        try:
            self._write(run)
        except Exception as error:  # whatever the disk does, the run goes on and the user is told
            if run.problem is None:
                logger.exception("run %s could not be saved", run.run_id)
            run.problem = str(error) or type(error).__name__
        else:
            run.problem = None
            with self._lock:
                is_behind = len(run.tokens) > run.num_written or (run.has_ended and not run.is_done)
                run.behind_since = time.monotonic() if is_behind else None

    def _write(self, run: LiveRun) -> None:
        # In this order: an ended run gets no more rows.
        has_ended, rows = run.has_ended, run.tokens[run.num_written :]
        if not run.is_created:
            self._store.create(
                run.owner,
                run.prompt,
                run.model,
                run.kind.schedule(run.config),
                run.recorded().config,
                run.kind.name,
                run_id=run.run_id,
                parent=run.parent,
            )
            run.is_created = True
        if run.prefill is not None and not run.has_prefill:
            self._store.set_prefill(run.run_id, run.prefill)
            run.has_prefill = True
        if rows:
            self._store.append_events(run.run_id, rows)
            run.num_written += len(rows)
        if has_ended:
            status = cast(RunStatus, run.phase)
            self._store.finish(run.run_id, status, run.summary, run.error)
            run.is_done = True
            self.drop(run.run_id)
