"""Runs in the background: started, polled and stopped by id, one at a time on the model.

A run is a generation or an inspection (``recorded_run.py``). Each has a thread that waits
in the queue (``model_queue.py``), has the model's work done (``compute.py``), and hands every event
to the page (in memory) and to the database (``run_saver.py``). A page that was reloaded asks again
with its visitor id and gets everything from the start.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, TypeVar

from app.formats import capital, json_safe
from app.host.errors import AppError, naming_damage
from app.host.limits import Limits
from app.model.compute import Compute, ModelLoader, Question, ShouldStop
from app.model.model_queue import ModelQueue, Ticket
from app.runs.live_run import EndPhase, LiveRun
from app.runs.recorded_run import RecordedRun, RunConfig, kind_of
from app.runs.run_saver import RunSaver
from app.runs.views import ROWS_PER_POLL, live_view, stored_view
from sol_core.config import GenerationConfig
from sol_core.errors import ConfigError, SolError
from sol_core.events import Event, PrefillProgress
from sol_core.inspection.records import InspectionEvent
from storage import NotFoundError, RunKind, RunRecord, RunStore, new_run_id

logger = logging.getLogger(__name__)

KEEP_ENDED_S = 60.0
# Rows that the disk refuses are worth keeping longer: they exist nowhere else.
KEEP_UNSAVED_S = 1800.0
CREATE_PATIENCE_S = 0.5  # of a start, whose run is then in the database, if that answers
SAVE_PATIENCE_S = 0.05  # of a poll; a batch of rows takes some milliseconds
# A page that asks a question of the model does not wait for a long generation of somebody else.
QUESTION_PATIENCE_S = 15.0
AnswerT = TypeVar("AnswerT")
_NOT_FOUND = (
    "This run does not exist, or you do not have access to it. Choose another one in History."
)


class RunNotFoundError(AppError, LookupError):
    """No run has this id, or it is not this visitor's to see."""


# Given a model, a text, a run's configuration, and the question whether to stop.
EngineFunction = Callable[[Any, str, Any, ShouldStop], Iterator[Any]]


class GenerationRuns:
    """Live runs of this process, falling back to the database; ``model_queue`` orders them."""

    def __init__(
        self,
        store: RunStore,
        loader: ModelLoader,  # runs that start before the model is loaded wait for it
        engine: EngineFunction,  # of runs of both kinds
        keep_ended_s: float = KEEP_ENDED_S,  # in memory, once a run is saved
        *,
        compute: Compute | None = None,  # by default in this process
        limits: Limits | None = None,
        on_tick: Callable[[], None] = lambda: None,  # about twice a second, off the runs' threads
    ) -> None:
        self._store = store
        self._loader = loader
        self._compute = compute or Compute(loader)
        self._limits = limits or Limits()
        self._on_tick = on_tick
        self._engine = engine
        self._keep_ended_s = keep_ended_s
        self._runs: dict[str, LiveRun] = {}
        self.model_queue = ModelQueue(self._limits)
        self._starting = threading.Lock()  # runs are queued in the order of the database
        self._saver = RunSaver(store, self._tick)

    def start(self, owner: str, prompt: str, config: RunConfig, parent: str | None = None) -> str:
        """Queue a run of the kind that its configuration is of; return its id."""
        if not prompt.strip():
            raise ConfigError(kind_of(config).empty)
        self._check_size(prompt, config)
        with self._starting:
            ticket, model = self.model_queue.enter(owner), self._loader.status().name
            run = LiveRun(new_run_id(), ticket, prompt, model, config, parent)
            self._runs[run.run_id] = run
            self._saver.add(run)
        # The visitor's context goes along: whoever asked is whose GPU quota is used.
        context = contextvars.copy_context()
        run.thread = threading.Thread(target=context.run, args=(self._work, run), daemon=True)
        run.thread.start()
        self._saver.catch_up(run, CREATE_PATIENCE_S)
        return run.run_id

    def poll(
        self, owner: str, run_id: str, cursor: int, kind: RunKind = "generation"
    ) -> dict[str, Any]:
        """The state and rows from ``cursor`` on. Raises: RunNotFoundError, StorageError."""
        run = self._visible(owner, run_id, kind)
        if isinstance(run, LiveRun):
            self._saver.catch_up(run, SAVE_PATIENCE_S)
            return live_view(run, self.model_queue.ahead(run.ticket), cursor)
        events = self._store.events(run.id, after=cursor - 1, limit=ROWS_PER_POLL + 1)
        with naming_damage("This run"):
            return stored_view(run, events, cursor)

    def check_visible(self, owner: str, run_id: str) -> None:
        run = self._run(run_id)
        if run is not None and not self._may_see(owner, run):
            raise RunNotFoundError(_NOT_FOUND)

    def recorded(self, owner: str, run_id: str, kind: RunKind = "generation") -> RecordedRun:
        """A run that has ended, as the engine recorded it. Raises: AppError while it goes on."""
        run = self._visible(owner, run_id, kind)
        if isinstance(run, LiveRun):
            if not run.has_ended:
                raise AppError("Wait until the run has ended, or stop it, to look into its tokens.")
            return run.recorded()
        return RecordedRun.of(run, self._store.events(run.id))

    def stop(self, owner: str, run_id: str) -> None:
        """Ask one's own run to end after its current token; nothing happens if it has ended."""
        run = self._runs.get(run_id)
        if run is None:
            return
        if run.owner != owner:
            raise RunNotFoundError("Only the visitor who started a run can stop it.")
        run.stop_requested.set()
        self.model_queue.wake()

    def ask(
        self, ticket: Ticket, question: Question[AnswerT], patience_s: float | None = None
    ) -> AnswerT:
        """Ask the model something short in a ticket's turn.

        Raises: AppError where it is still loading or stays busy; ModelLoadError.
        """
        patience_s = QUESTION_PATIENCE_S if patience_s is None else patience_s
        deadline = time.monotonic() + patience_s
        is_its_turn = self.model_queue.wait(ticket, timeout_s=patience_s)
        if self._loader.wait(lambda: time.monotonic() > deadline) is None:
            raise AppError("The model is not loaded yet. Try again when it is ready.")
        if not is_its_turn:
            raise AppError("The model is busy with a generation. Try again when it has ended.")
        return self._compute.ask(question)

    def active(self, owner: str, kind: RunKind = "generation") -> str | None:
        """The id of this visitor's newest run of a kind that has not ended."""
        mine = [
            run
            for run in list(self._runs.values())  # other threads start and forget runs meanwhile
            if run.owner == owner and run.kind.name == kind and not run.has_ended
        ]
        return mine[-1].run_id if mine else None

    def is_live(self, run_id: str) -> bool:
        run = self._runs.get(run_id)
        return run is not None and not run.has_ended

    def forget(self, run_id: str) -> None:
        """Drop an ended run from memory (it was deleted)."""
        self._runs.pop(run_id, None)
        self._saver.drop(run_id)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop everything, save what there is, end the threads."""
        deadline = time.monotonic() + timeout_s
        for run in list(self._runs.values()):
            run.stop_requested.set()
        self.model_queue.wake()
        for run in list(self._runs.values()):
            if run.thread is not None:
                run.thread.join(max(0.0, deadline - time.monotonic()))
        self._saver.close(timeout_s)

    def _check_size(self, prompt: str, config: RunConfig) -> None:
        limits = self._limits
        if len(prompt) > limits.characters:
            raise ConfigError(
                f"The text has {len(prompt):,} characters; at most {limits.characters:,} are "
                "read. Shorten it."
            )
        if isinstance(config, GenerationConfig) and config.max_new_tokens > limits.new_tokens:
            raise ConfigError(
                f"A run on this server makes at most {limits.new_tokens:,} tokens, "
                f"{config.max_new_tokens:,} were asked for."
            )

    def _work(self, run: LiveRun) -> None:
        phase: EndPhase = "failed"
        error = None
        try:
            phase = self._take_turn_and_generate(run)
        except SolError as reason:
            error = capital(str(reason))
        except Exception as reason:  # the run's thread ends here: shown
            logger.exception("run %s failed", run.run_id)
            error = f"The {run.kind.name} failed: {type(reason).__name__}: {reason}"
        self.model_queue.leave(run.ticket)
        run.end(phase, error)
        self._saver.note(run)

    def _take_turn_and_generate(self, run: LiveRun) -> EndPhase:
        self.model_queue.wait(run.ticket, run.stop_requested.is_set)
        run.phase = "loading"
        model = None
        if not run.stop_requested.is_set():
            model = self._loader.wait(run.stop_requested.is_set)
        if model is None or run.stop_requested.is_set():
            return "stopped"
        run.model = model.name
        run.phase = "prefill"
        work = functools.partial(_events, self._engine, run.owner, run.prompt, run.config)
        steps = run.kind.steps(run.config)
        for event in self._compute.stream(work, run.stop_requested.is_set, steps):
            self._take(run, event)
        reason = (run.summary or {}).get("reason")
        stopped = run.stop_requested.is_set() and reason in (None, "stopped")
        return "stopped" if stopped else "finished"

    def _take(self, run: LiveRun, event: Event | InspectionEvent) -> None:
        if isinstance(event, PrefillProgress):
            run.reading = asdict(event)
            return
        record = json_safe(run.kind.record(event))
        if record["type"] == "token":
            run.tokens.append(record)
            self._saver.note(run)
        elif record["type"] == "prefill":
            run.prefill = record
            run.phase = "running"
            self._saver.note(run)
        else:
            run.summary = record

    def _visible(self, owner: str, run_id: str, kind: RunKind) -> LiveRun | RunRecord:
        run = self._run(run_id)
        if run is None or not self._may_see(owner, run):
            raise RunNotFoundError(_NOT_FOUND)
        actual = run.kind.name if isinstance(run, LiveRun) else run.kind
        if actual != kind:
            tab = "Inspect" if actual == "inspection" else "Explore"
            raise RunNotFoundError(
                f"This is a run of the {tab} tab. Open it there, or from History."
            )
        return run

    def _may_see(self, owner: str, run: LiveRun | RunRecord) -> bool:
        if run.owner == owner:
            return True
        return bool(self._limits.share_runs) and (isinstance(run, RunRecord) or run.has_ended)

    def _run(self, run_id: str) -> LiveRun | RunRecord | None:
        if (live := self._runs.get(run_id)) is not None:
            return live
        try:
            record = self._store.get(run_id)
        except NotFoundError:
            return None
        # "running" here belongs to another process: it cannot be shown live.
        return None if record.status == "running" else record

    def _tick(self) -> None:
        """Forget ended runs that are saved, and after a longer while those that never were."""
        now = time.monotonic()
        for run in list(self._runs.values()):
            if run.ended_at is None:
                continue
            if now - run.ended_at > (self._keep_ended_s if run.is_done else KEEP_UNSAVED_S):
                self.forget(run.run_id)
        self._on_tick()


def _events(
    engine: EngineFunction,
    owner: str,
    prompt: str,
    config: RunConfig,
    model: Any,
    should_stop: ShouldStop,
) -> Iterator[Any]:
    """A run's work; at module level, so that it can be pickled for ZeroGPU."""
    return engine(model.of_owner(owner), prompt, config, should_stop)
