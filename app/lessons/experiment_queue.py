"""Experiments of the lessons: computed once for all who ask, one after another.

A question is the model, an experiment's name and a text's. The first visitor to ask has it
computed; everybody who asks the same shares that computation, and later its result. One thread
takes the questions in turn, each queued with the generations. A page asks again and again while
it waits: a question that nobody asks any more is dropped when its turn comes, and at its next step
where it is being measured in this process.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.formats import iso, json_safe
from app.host.errors import AppError
from app.host.limits import Holder, Quota
from app.host.visitor import address
from app.model.compute import ModelLoader, Question, Workbench
from app.model.model_queue import LESSONS
from app.runs.generation_runs import GenerationRuns
from sol_core.errors import SolError

logger = logging.getLogger(__name__)

# A school may share an address, and visitors can make up as many ids as they like.
QUOTA = Quota("experiments waiting", of_visitor=6, of_address=32, of_all=64)
FAILURE_S = 3.0  # for so long everybody who asks again is told the reason
PATIENCE_S = 90.0  # with the generations before it
ABANDONED_S = 5.0  # without a question from anybody; pages ask once a second


@dataclass(frozen=True, slots=True)
class Experiment:
    """Something to measure, one JSON object for a model and the name of one of the texts."""

    measure: Callable[[Any, str], dict[str, Any]]
    texts: Collection[str]


@dataclass(eq=False, slots=True)
class _Waiting:
    holder: Holder  # who asked first
    asked_at: float  # last, by anybody; these are monotonic seconds
    began_at: float | None = None  # to be measured

    @property
    def is_abandoned(self) -> bool:
        return time.monotonic() - self.asked_at > ABANDONED_S


class AbandonedError(Exception):
    """Nobody asks for the measurement in work any more."""


_IS_ABANDONED: ContextVar[Callable[[], bool]] = ContextVar("is_abandoned", default=lambda: False)


def check_wanted() -> None:
    """Raises: AbandonedError, which ends the measurement in work; never in another process."""
    if _IS_ABANDONED.get()():
        raise AbandonedError


class ExperimentQueue:
    """Answers questions about ``experiments`` by their names, or says how many come first."""

    def __init__(
        self, runs: GenerationRuns, loader: ModelLoader, experiments: Mapping[str, Experiment]
    ) -> None:
        self._runs, self._loader, self._experiments = runs, loader, dict(experiments)
        self._waiting: dict[str, _Waiting] = {}  # the first one is measured, or next
        # When it ended, in monotonic seconds; and JSON of 10 to 60 kB, or why there is none.
        self._ended: dict[str, tuple[float, str | AppError]] = {}
        self._changed = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="experiments")

    def ask(self, owner: str, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """``state`` "done", "loading" (the model), or "waiting" for all that come ``before``.

        ``seconds``: for so long it has been measured; None before.
        """
        experiment, text = self._experiments.get(name), parameters.get("text")
        if experiment is None:
            raise AppError(f"no experiment is called {name[:40]!r}. Reload the page.")
        if not isinstance(text, str) or text not in experiment.texts:
            known = ", ".join(experiment.texts)
            raise AppError(f"no text is called {str(text)[:40]!r}; there are {known}")
        model = self._loader.loaded()
        if model is None:
            return {"state": "loading"}
        key = json.dumps([model.name, model.dtype_name, name, text])
        with self._changed:
            ended_at, outcome = self._ended.get(key, (-math.inf, None))
            if isinstance(outcome, str):
                return {"state": "done", "result": json.loads(outcome)}
            if outcome is not None and time.monotonic() - ended_at < FAILURE_S:
                raise AppError(str(outcome))
            if (entry := self._waiting.get(key)) is None:
                entry = self._enter(key, owner)
                question = functools.partial(_timed, measure=experiment.measure, text=text)
                self._thread.submit(self._measure, key, entry, question)
            entry.asked_at = now = time.monotonic()
            before = list(self._waiting).index(key) + self._runs.model_queue.before(LESSONS)
        seconds = None if entry.began_at is None else now - entry.began_at
        return {"state": "waiting", "before": before, "seconds": seconds}

    def close(self) -> None:
        """Forget what waits; the thread ends after its current measurement."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _enter(self, key: str, owner: str) -> _Waiting:
        """Put a question last; those that nobody asks any more make way. Raises: AppError."""
        kept = {
            name: waiting
            for name, waiting in self._waiting.items()
            if waiting.began_at or not waiting.is_abandoned
        }
        here = address()
        QUOTA.check((waiting.holder for waiting in kept.values()), owner, here)
        entry = _Waiting(Holder(owner, here), time.monotonic())
        self._waiting = kept | {key: entry}
        return entry

    def _is_wanted(self, key: str, entry: _Waiting) -> bool:
        with self._changed:
            if entry.is_abandoned and self._waiting.get(key) is entry:
                del self._waiting[key]
            return self._waiting.get(key) is entry

    def _measure(self, key: str, entry: _Waiting, question: Question[dict[str, Any]]) -> None:
        outcome: str | AppError
        if not self._is_wanted(key, entry):
            return
        try:
            with self._runs.model_queue.held(LESSONS) as ticket:
                self._runs.model_queue.wait(ticket, timeout_s=PATIENCE_S)
                if not self._is_wanted(key, entry):
                    return
                entry.began_at = time.monotonic()
                _IS_ABANDONED.set(lambda: entry.is_abandoned)
                outcome = json.dumps(self._runs.ask(ticket, question, patience_s=0))
        except AbandonedError:
            with self._changed:
                del self._waiting[key]
            return
        except SolError as error:
            outcome = AppError(str(error))
        except Exception as error:  # a bug ends the question, not the thread
            logger.exception("the experiment %s failed", key)
            outcome = AppError(f"The experiment failed: {type(error).__name__}: {error}")
        with self._changed:
            if self._waiting.get(key) is entry:
                del self._waiting[key]
            self._ended[key] = time.monotonic(), outcome


def _timed(
    bench: Workbench, measure: Callable[[Any, str], dict[str, Any]], text: str
) -> dict[str, Any]:
    """A result and how it came about; at module level, so that it can be pickled for ZeroGPU."""
    began = time.perf_counter()
    result: dict[str, Any] = json_safe(measure(bench.model, text))
    return result | {
        "model": bench.model.name,
        "took_ms": round(1000 * (time.perf_counter() - began)),
        "measured_at": iso(datetime.now(UTC)),
    }
