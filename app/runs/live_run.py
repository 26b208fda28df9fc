"""One run that is queued, running or has just ended: what the threads share about it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from app.formats.plain_json import json_safe
from app.model.model_line import Place
from app.runs.kinds import KindOfRun, RunConfig, kind_of
from app.runs.recorded_run import RecordedRun
from app.runs.saver import SavedRun

EndPhase = Literal["finished", "stopped", "failed"]
Phase = Literal["queued", "loading", "prefill", "running", EndPhase]
ENDED: frozenset[Phase] = frozenset({"finished", "stopped", "failed"})


@dataclass(eq=False, slots=True)
class LiveRun:
    """Written by the run's own thread, read by polls.

    Attributes:
        place: in line for the model; only its owner sees the run before it has ended.
        saved: what the database has not got yet.
        parent: id of the run that it is a fork of.
        tokens: JSON of the engine's token events so far; only ever appended to.
        ended_at: ``time.monotonic()`` of the end.
    """

    run_id: str
    place: Place
    prompt: str
    title: str
    model: str
    config: RunConfig
    created_at: datetime
    saved: SavedRun
    parent: str | None = None
    phase: Phase = "queued"
    tokens: list[dict[str, Any]] = field(default_factory=list)
    prefill: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    error: str | None = None
    ended_at: float | None = None
    stop_requested: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @property
    def owner(self) -> str:
        return self.place.owner

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
        """Return what the run was asked and has done so far."""
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

    def warning(self) -> str | None:
        """A sentence for the user while the run is not saved as it should be."""
        if self.saved.problem is not None:
            return f"Saving is failing and will be tried again: {self.saved.problem}"
        if self.saved.is_late():
            return "Saving is late: the database is busy. What you see is saved when it answers."
        return None

    def shown(self) -> tuple[Phase, int]:
        """The phase and number of rows that the page is given: what no kill can take back.

        All there is, with a warning, while saving fails or is late. An ended phase promises
        that all rows are there.
        """
        phase, saved = self.phase, self.saved
        if saved.problem is not None or saved.is_late() or saved.done:
            return phase, len(self.tokens)
        return "running" if phase in ENDED else phase, saved.num_written
