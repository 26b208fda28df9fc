"""The language model, and where it works: here, or in calls elsewhere (``zero_gpu.py``).

It is loaded in a thread, so that the page is reachable before it is there. Work and questions, and
what they yield and return, must be fit to be pickled for another process; they must not touch the
database.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from sol_core.card_errors import card_error, give_memory_back
from sol_core.errors import CardLostError, ModelLoadError, SolError

AnswerT = TypeVar("AnswerT")
ThingT = TypeVar("ThingT")
ShouldStop = Callable[[], bool]
ModelState = Literal["loading", "ready", "failed"]
ProgressFunction = Callable[[str, float], None]
LoadFunction = Callable[[ProgressFunction], Any]

logger = logging.getLogger(__name__)
_WAIT_STEP_S = 0.1


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """State of the model as the page shows it; ``fraction`` of loading is in [0, 1]."""

    name: str
    state: ModelState
    message: str
    fraction: float
    facts: dict[str, Any]


class ModelLoader:
    """The one language model; where not ``in_background``, ``start`` loads it in its own thread."""

    def __init__(self, name: str, load: LoadFunction, *, in_background: bool = True) -> None:
        self._load = load
        self._in_background = in_background
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._model: Any = None
        self._is_lost = False
        self._status = ModelStatus(name, "loading", "Starting", 0.0, {})

    def start(self) -> None:
        """Begin to load; returns at once, or loaded where that is not done in the background."""
        if not self._in_background:
            return self._work()
        threading.Thread(target=self._work, name="model-loader", daemon=True).start()

    def retry(self) -> None:
        """Load again after a failure. Raises: ModelLoadError where that is not possible."""
        with self._lock:
            if self._status.state != "failed":
                return
            if self._is_lost:
                raise ModelLoadError(self._status.message)
            if not self._in_background:
                raise ModelLoadError(
                    "On ZeroGPU the model is loaded when the Space starts: its owner can restart "
                    "it in the Space's settings."
                )
            self._settled.clear()
            self._set("loading", "Starting again", 0.0)
        self.start()

    def lose(self, message: str) -> None:
        """Count the model as failed for as long as this process lives."""
        with self._lock:
            self._is_lost = True
            self._set("failed", message, 0.0)

    def note(self, sentences: Sequence[str]) -> None:
        """Add sentences to the notes that pages show about the model."""
        with self._lock:
            facts = self._status.facts
            notes = [*facts.get("notes", ()), *sentences]
            self._status = replace(self._status, facts=facts | {"notes": notes})

    def status(self) -> ModelStatus:
        return self._status

    def loaded(self) -> Any:
        """The model; None while it loads or after it failed."""
        return self._model

    def wait(self, should_stop: Callable[[], bool]) -> Any:
        """The model once it is loaded; None when stopped first. Raises: ModelLoadError."""
        while not self._settled.wait(_WAIT_STEP_S):
            if should_stop():
                return None
        if self._status.state == "failed":
            raise ModelLoadError(self._status.message)
        return self._model

    def _work(self) -> None:
        try:
            model = self._load(lambda message, part: self._set("loading", message, part))
            facts = _facts(model)  # imports for seconds the first time: nobody has the model before
            self._model = model
            self._set("ready", "Ready", 1.0, facts)
        except SolError as error:
            logger.warning("the model could not be loaded: %s", error)
            self._set("failed", str(error), 0.0)
        except Exception as error:  # the thread's end: the page shows it
            logger.exception("loading the model failed")
            reason = str(card_error(error) or f"Loading failed: {type(error).__name__}: {error}")
            if _needs_restart(error):
                self.lose(f"{reason} A second try cannot work: restart SOL Explorer.")
            else:
                self._set("failed", reason, 0.0)
        finally:
            self._settled.set()

    def _set(
        self, state: ModelState, message: str, fraction: float, facts: dict[str, Any] | None = None
    ) -> None:
        fraction = min(max(fraction, 0.0), 1.0)
        self._status = ModelStatus(self._status.name, state, message, fraction, facts or {})


def _needs_restart(error: Exception) -> bool:
    """Return whether torch was left half imported, which no process can complete."""
    is_half = "torch._C" in sys.modules and "torch" not in sys.modules
    return is_half or "TORCH_LIBRARY" in str(error)


def _facts(model: Any) -> dict[str, Any]:
    from sol_core.models.tuning import machine_name  # torch, which has come with the model

    return {
        "name": model.name,
        "dtype": model.dtype_name,
        "device": model.device_name,
        "machine": machine_name() if model.device_name == "cpu" else model.device_name,
        "context_length": model.context_length,
        "notes": list(model.notes),
    }


@dataclass(slots=True)
class Workbench:
    """The loaded model, and what a question left beside it, which may be gone at any time."""

    model: Any
    _kept: tuple[Hashable, Any] = (None, None)

    def kept(self, key: Hashable, make: Callable[[], ThingT]) -> ThingT:
        """The thing of this key if it is the last one; else it is made instead."""
        if self._kept[0] != key:
            self._kept = (None, None)  # the old one's memory goes before the new one is made
            self._kept = (key, make())
        thing: ThingT = self._kept[1]
        return thing


Work = Callable[[Any, ShouldStop], Iterator[Any]]  # of the model
Question = Callable[[Workbench], AnswerT]


class Compute:
    """Runs work on the model in this process's memory, in the thread that asks."""

    def __init__(self, loader: ModelLoader) -> None:
        self._loader = loader
        self._bench: Workbench | None = None

    def prepare(self) -> None:
        """Do what must be done before the page opens; here nothing, the model loads meanwhile."""

    def stream(self, work: Work, should_stop: ShouldStop, steps: int) -> Iterator[Any]:
        """Yield the work's results, of at most ``steps`` decode steps, as they come."""
        with self._card_errors():
            yield from work(self._loader.loaded(), should_stop)

    def ask(self, question: Question[AnswerT]) -> AnswerT:
        """The question's answer. Raises: SolError."""
        with self._card_errors():
            return question(self._workbench())

    def _workbench(self) -> Workbench:
        model = self._loader.loaded()
        if self._bench is None or self._bench.model is not model:
            self._bench = Workbench(model)
        return self._bench

    @contextlib.contextmanager
    def _card_errors(self) -> Iterator[None]:
        """Say a card's errors in words; after one that lasts, the model counts as failed."""
        try:
            yield
        except RuntimeError as error:
            reason = card_error(error)
            if reason is None:
                raise
            if isinstance(reason, CardLostError):
                self._loader.lose(str(reason))
            give_memory_back(error)
            raise reason from error
