"""Experiments of the lessons: asked for by many, measured once, one after another.

An experiment is known by the model, its name and its parameters. Who asks for one that was
measured before gets it at once; who asks for one that waits, waits for the same measurement.
One thread takes them in turn, each in line with the generations. What nobody asks about any
more leaves the line, and so does what one visitor asked before their newest few questions: nothing
piles up, and nobody keeps a class from its turn.
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

from app.formats.plain_json import iso, json_safe
from app.host.errors import AppError
from app.host.shares import Holder, Shares
from app.host.visitor import address
from app.model.compute import Workbench
from app.model.loader import ModelLoader
from app.runs.queue import GenerationRuns
from sol_core.errors import SolError

logger = logging.getLogger(__name__)

OWNER = "lessons"  # in the model's line; no visitor's id looks like this
MAX_KEPT = 256  # results, of 10 to 60 kB
MAX_KEPT_BYTES = 16 * 1024**2
# A school may share an address, and visitors can make up as many ids as they like.
SHARES = Shares("experiments waiting", of_address=32, of_all=64)
MAX_PER_VISITOR = 3  # a page waits for one; the others were asked by its other tabs
FORGOTTEN_S = 10.0  # a page asks a few times a second, a hidden one once
FAILURE_S = 3.0  # for so long the reason is told to everybody who waited
PATIENCE_S = 90.0  # with the generations before it

Parameters = dict[str, Any]
Measure = Callable[[Any, Parameters], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Experiment:
    """Something to measure.

    Attributes:
        measure: gives one JSON object for the model and the parameters.
        checked: the parameters that it takes, few and small, out of what was asked for the model;
            raises AppError for anything else.
    """

    measure: Measure
    checked: Callable[[Any, Parameters], Parameters]


@dataclass(eq=False, slots=True)
class _Ticket:
    """A place in line.

    Attributes:
        address: of the visitor who asked first; None where it is not known.
        asked_at: when each visitor last asked, monotonic seconds.
    """

    name: str
    parameters: Parameters
    address: str | None
    asked_at: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    at: float


class ExperimentDesk:
    """Takes questions; gives results, or a place in line.

    Args:
        experiments: by name.
    """

    def __init__(
        self, runs: GenerationRuns, loader: ModelLoader, experiments: Mapping[str, Experiment]
    ) -> None:
        self._runs, self._loader, self._experiments = runs, loader, dict(experiments)
        self._results: OrderedDict[str, bytes] = OrderedDict()  # JSON; last used at the end
        self._line: dict[str, _Ticket] = {}  # the first is being measured
        self._failures: dict[str, _Failure] = {}
        self._changed = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(self, owner: str, name: str, parameters: Parameters) -> dict[str, Any]:
        """``state`` "done" with ``result``, "loading" (the model), or "waiting" with ``before``.

        ``before`` counts the experiments and generations that come first. Who goes on asking
        keeps the place.

        Raises: AppError for an unknown experiment or parameter, a full line, or one that failed.
        """
        experiment = self._experiments.get(name)
        if experiment is None:
            raise AppError(f"no experiment is called {name[:40]!r}. Reload the page.")
        model = self._loader.loaded()
        if model is None:
            return {"state": "loading"}
        parameters = experiment.checked(model, parameters)
        key = json.dumps([model.name, model.dtype_name, name, parameters], sort_keys=True)
        with self._changed:
            if key in self._results:
                self._results.move_to_end(key)
                return {"state": "done", "result": json.loads(self._results[key])}
            self._tell_failure(key)
            self._enter(key, owner, name, parameters)
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

    def _enter(self, key: str, owner: str, name: str, parameters: Parameters) -> None:
        now, here = time.monotonic(), address()
        self._forget_abandoned(now)
        ticket = self._line.get(key)
        if ticket is None or owner not in ticket.asked_at:
            self._forget_older(owner)
        if ticket is None:
            SHARES.check((Holder("", one.address) for one in self._line.values()), owner, here)
            ticket = self._line[key] = _Ticket(name, parameters, here, {})
        ticket.asked_at[owner] = now
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="experiments", daemon=True)
            self._thread.start()

    def _forget_abandoned(self, now: float) -> None:
        for key, ticket in list(self._line.items()):
            ticket.asked_at = {
                owner: at for owner, at in ticket.asked_at.items() if now - at <= FORGOTTEN_S
            }
            self._drop_unwanted(key)

    def _forget_older(self, owner: str) -> None:
        """Make room for a visitor's new question: the oldest ones beyond their share go."""
        mine = [(one.asked_at[owner], k) for k, one in self._line.items() if owner in one.asked_at]
        for _, key in sorted(mine)[: max(0, len(mine) - MAX_PER_VISITOR + 1)]:
            del self._line[key].asked_at[owner]
            self._drop_unwanted(key)

    def _drop_unwanted(self, key: str) -> None:
        is_running = key == next(iter(self._line))
        if not is_running and not self._line[key].asked_at:
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
                    self._keep(key, result)
                if failure is not None:
                    self._failures[key] = _Failure(failure, time.monotonic())

    def _keep(self, key: str, result: bytes) -> None:
        """Keep a result, and of the others those last used; whoever waits for it still gets it."""
        self._results[key] = result
        size = sum(map(len, self._results.values()))
        while len(self._results) > MAX_KEPT or (size > MAX_KEPT_BYTES and len(self._results) > 1):
            size -= len(self._results.popitem(last=False)[1])

    def _measured(self, ticket: _Ticket) -> tuple[bytes | None, str | None]:
        """The result as JSON, or why there is none."""
        measure = self._experiments[ticket.name].measure
        question = functools.partial(_timed, measure=measure, parameters=ticket.parameters)
        try:
            result = self._runs.with_model(OWNER, question, PATIENCE_S)
            return json.dumps(result).encode("ascii"), None
        except SolError as error:
            return None, str(error)
        except Exception as error:  # a bug ends the question, not the thread
            logger.exception("the experiment %s failed", ticket.name)
            return None, f"The experiment failed: {type(error).__name__}: {error}"


def _timed(bench: Workbench, measure: Measure, parameters: Parameters) -> dict[str, Any]:
    """A result and how it came about; a function of the module, because it may travel."""
    began = time.perf_counter()
    result: dict[str, Any] = json_safe(measure(bench.model, parameters))
    return result | {
        "model": bench.model.name,
        "took_ms": round(1000 * (time.perf_counter() - began)),
        "measured_at": iso(datetime.now(UTC)),
    }
