"""Experiments of the lessons: asked for by many, measured once, one after another.

An experiment is known by the model, its name and its parameters. Who asks for one that was
measured before gets it at once; who asks for one that waits, waits for the same measurement.
One thread takes them in turn, each in line with the generations. What nobody asks about any
more leaves the line, so nothing piles up.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.compute import Workbench
from app.errors import AppError
from app.generation_runs import GenerationRuns
from app.model_loader import ModelLoader
from app.views import iso
from sol_core.errors import SolError

__all__ = ["ExperimentDesk", "Measure"]

logger = logging.getLogger(__name__)

OWNER = "lessons"  # in the model's line; no visitor's id looks like this
MAX_KEPT = 256  # results, of at most about 20 kB
MAX_WAITING = 64
FORGOTTEN_S = 10.0  # a page asks a few times a second, a hidden one once
FAILURE_S = 3.0  # for so long the reason is told to everybody who waited
PATIENCE_S = 90.0  # with the generations before it

Measure = Callable[[Any, dict[str, Any]], dict[str, Any]]


@dataclass(eq=False, slots=True)
class _Ticket:
    """A place in line; ``asked_at`` is when somebody last asked, monotonic seconds."""

    name: str
    parameters: dict[str, Any]
    asked_at: float


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    at: float


class ExperimentDesk:
    """Takes questions; gives results, or a place in line.

    Args:
        measures: the experiments by name; each gets the model and its parameters.
    """

    def __init__(
        self, runs: GenerationRuns, loader: ModelLoader, measures: Mapping[str, Measure]
    ) -> None:
        self._runs, self._loader, self._measures = runs, loader, dict(measures)
        self._results: OrderedDict[str, dict[str, Any]] = OrderedDict()  # last used at the end
        self._line: dict[str, _Ticket] = {}  # the first is being measured
        self._failures: dict[str, _Failure] = {}
        self._changed = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(self, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """``state`` "done" with ``result``, "loading" (the model), or "waiting" with ``before``.

        ``before`` counts the experiments and generations that come first. Who goes on asking
        keeps the place.

        Raises: AppError for an unknown experiment, a full line, or one that failed.
        """
        if name not in self._measures:
            raise AppError(f"no experiment is called {name!r}. Reload the page.")
        model = self._loader.loaded()
        if model is None:
            return {"state": "loading"}
        key = json.dumps([model.name, model.dtype_name, name, parameters], sort_keys=True)
        with self._changed:
            if key in self._results:
                self._results.move_to_end(key)
                return {"state": "done", "result": self._results[key]}
            self._tell_failure(key)
            self._enter(key, name, parameters)
            place = list(self._line).index(key)
        return {"state": "waiting", "before": place + self._runs.line.before(OWNER)}

    def close(self) -> None:
        """Forget what waits; the thread ends after its current measurement."""
        with self._changed:
            self._line.clear()

    def _tell_failure(self, key: str) -> None:
        now = time.monotonic()
        self._failures = {k: one for k, one in self._failures.items() if now - one.at < FAILURE_S}
        if key in self._failures:
            raise AppError(self._failures[key].reason)

    def _enter(self, key: str, name: str, parameters: dict[str, Any]) -> None:
        now = time.monotonic()
        if key in self._line:
            self._line[key].asked_at = now
            return
        self._forget_abandoned(now)
        if len(self._line) >= MAX_WAITING:
            raise AppError(
                f"{len(self._line)} experiments are waiting, the most that are allowed. "
                "Try again in a minute."
            )
        self._line[key] = _Ticket(name, parameters, now)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="experiments", daemon=True)
            self._thread.start()

    def _forget_abandoned(self, now: float) -> None:
        running = next(iter(self._line), None)
        for key, ticket in list(self._line.items()):
            if key != running and now - ticket.asked_at > FORGOTTEN_S:
                del self._line[key]

    def _work(self) -> None:
        """Measure what is in line; the thread ends with it."""
        while True:
            with self._changed:
                self._forget_abandoned(time.monotonic())
                key = next(iter(self._line), None)
                if key is None:
                    self._thread = None
                    return
                ticket = self._line[key]
            result, failure = self._measured(ticket)
            with self._changed:
                self._line.pop(key, None)
                if result is not None:
                    self._results[key] = result
                    while len(self._results) > MAX_KEPT:
                        self._results.popitem(last=False)
                if failure is not None:
                    self._failures[key] = _Failure(failure, time.monotonic())

    def _measured(self, ticket: _Ticket) -> tuple[dict[str, Any] | None, str | None]:
        """The result, or why there is none."""
        measure = self._measures[ticket.name]
        question = functools.partial(_timed, measure=measure, parameters=ticket.parameters)
        try:
            return self._runs.with_model(OWNER, question, PATIENCE_S), None
        except SolError as error:
            return None, str(error)
        except Exception as error:  # the thread's last line of defence: shown, not swallowed
            logger.exception("the experiment %s failed", ticket.name)
            return None, f"The experiment failed: {type(error).__name__}: {error}"


def _timed(bench: Workbench, measure: Measure, parameters: dict[str, Any]) -> dict[str, Any]:
    """A result and how it came about; a function of the module, because it may travel."""
    began = time.perf_counter()
    result = measure(bench.model, parameters)
    return result | {
        "model": bench.model.name,
        "took_ms": round(1000 * (time.perf_counter() - began)),
        "measured_at": iso(datetime.now(UTC)),
    }
