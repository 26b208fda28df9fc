"""A run that is queued, running or has just ended; its thread, polls and ``RunSaver`` share it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from app.formats import json_safe
from app.model.model_queue import Ticket
from app.runs.recorded_run import KindOfRun, RecordedRun, RunConfig, kind_of

EndPhase = Literal["finished", "stopped", "failed"]
Phase = Literal["queued", "loading", "prefill", "running", EndPhase]
ENDED: frozenset[Phase] = frozenset({"finished", "stopped", "failed"})
LATE_S = 1.0  # one batch of rows takes milliseconds


@dataclass(eq=False, slots=True)
class LiveRun:
    """A run in memory: its own thread and the saver write it, polls read it."""

    run_id: str
    ticket: Ticket  # for the model; only its owner sees the run before it has ended
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
