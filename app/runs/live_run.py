"""A run that is queued, running or has just ended, and what writes its events to the database.

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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, cast

from app.formats import json_safe
from app.model.model_line import Ticket
from app.runs.recorded_run import KindOfRun, RecordedRun, RunConfig, kind_of
from storage import RunStatus, RunStore

EndPhase = Literal["finished", "stopped", "failed"]
Phase = Literal["queued", "loading", "prefill", "running", EndPhase]
ENDED: frozenset[Phase] = frozenset({"finished", "stopped", "failed"})
LATE_S = 1.0  # one batch of rows takes milliseconds
TICK_S = 0.5
logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class LiveRun:
    """Written by the run's own thread and, as to what is saved, by the saver's; read by polls."""

    run_id: str
    ticket: Ticket  # in line for the model; only its owner sees the run before it has ended
    prompt: str
    model: str
    config: RunConfig
    parent: str | None = None  # id of the run that it is a fork of
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    phase: Phase = "queued"
    tokens: list[dict[str, Any]] = field(default_factory=list)  # only ever appended to
    reading: dict[str, Any] | None = None  # how far the prompt is read; no database keeps it
    prefill: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    error: str | None = None
    ended_at: float | None = None  # as ``time.monotonic()``
    stop_requested: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    # Parts that are in the database.
    is_created: bool = False
    has_prefill: bool = False
    num_written: int = 0  # of the tokens
    is_done: bool = False  # everything, the ending included
    problem: str | None = None  # why the last attempt to save failed
    behind_since: float | None = field(default_factory=time.monotonic)  # the oldest of what waits

    @property
    def owner(self) -> str:
        return self.ticket.owner

    @property
    def kind(self) -> KindOfRun:
        return kind_of(self.config)

    @property
    def has_ended(self) -> bool:
        return self.phase in ENDED

    def end(self, phase: EndPhase, error: str | None = None) -> None:
        """The last change of a run; what it did up to here stays."""
        self.error = error
        self.ended_at = time.monotonic()
        self.phase = phase

    def recorded(self) -> RecordedRun:
        return RecordedRun(
            self.run_id,
            self.kind.name,
            self.prompt,
            self.model,
            json_safe(self.config.to_dict()),
            self.prefill,
            self.tokens,
            self.parent,
        )

    def is_late(self) -> bool:
        """Return whether something has waited for so long that the page does not wait for it."""
        since = self.behind_since
        return since is not None and time.monotonic() - since > LATE_S

    def warning(self) -> str | None:
        """A sentence for the user while the run is not saved as it should be."""
        if self.problem is not None:
            return f"Saving is failing and will be tried again: {self.problem}"
        if self.is_late():
            return "Saving is late: the database is busy. What you see is saved when it answers."
        return None

    def shown(self) -> tuple[Phase, int]:
        """The phase and number of rows that the page is given: what no kill can take back.

        All there is, with a warning, while saving fails or is late. An ended phase promises
        that all rows are there.
        """
        phase = self.phase
        if self.problem is not None or self.is_late() or self.is_done:
            return phase, len(self.tokens)
        return "running" if phase in ENDED else phase, self.num_written


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
