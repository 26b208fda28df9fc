"""Place of the model's work: this process, or (``zero_gpu.py``) calls elsewhere.

Work and questions, and what they yield and return, must be fit to be pickled for another process;
they must not touch the database.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from app.model.loader import ModelLoader
from sol_core.card_errors import give_memory_back, in_words
from sol_core.errors import CardLostError

AnswerT = TypeVar("AnswerT")
ThingT = TypeVar("ThingT")
ShouldStop = Callable[[], bool]


@dataclass(slots=True)
class Workbench:
    """The loaded model, and what a question left beside it, which may be gone at any time."""

    model: Any
    _kept: tuple[Hashable, Any] = (None, None)

    def kept(self, key: Hashable, make: Callable[[], ThingT]) -> ThingT:
        """The thing of this key if it is the last one; else it is made in its place."""
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
            told = in_words(error)
            if told is None:
                raise
            if isinstance(told, CardLostError):
                self._loader.lose(str(told))
            give_memory_back(error)
            raise told from error
