"""The line for the model: first come, first served, and nobody takes all of its places."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.host.errors import AppError
from app.host.limits import Limits
from app.host.visitor import address


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """A run or a question in line; ``address`` is None where the network does not say it."""

    owner: str
    address: str | None


class ModelLine:
    """The runs and questions that the model works on, and those that wait for it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places: list[Place] = []
        self._turn = threading.Condition()

    def enter(self, owner: str) -> Place:
        """A new place at the end; whoever takes it leaves it again.

        Raises: AppError beyond a limit.
        """
        with self._turn:
            self._check_room(owner)
            place = Place(owner, address())
            self._places.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Give a place up; the next ones may have their turn."""
        with self._turn:
            self._places.remove(place)
            self._turn.notify_all()

    @contextlib.contextmanager
    def held(self, owner: str) -> Iterator[Place]:
        """A place for as long as it is needed. Raises: as ``enter``."""
        place = self.enter(owner)
        try:
            yield place
        finally:
            self.leave(place)

    def wait(
        self,
        place: Place,
        should_stop: Callable[[], bool] = lambda: False,
        timeout_s: float | None = None,
    ) -> bool:
        """Wait for the turn of a place, until ``wake`` finds ``should_stop``; whether it came."""
        with self._turn:
            self._turn.wait_for(lambda: self._has_turn(place) or should_stop(), timeout_s)
            return self._has_turn(place)

    def wake(self) -> None:
        """Have those that wait ask again whether to stop."""
        with self._turn:
            self._turn.notify_all()

    def number(self, place: Place) -> int | None:
        """Return the number of owners before a place; None when it was left."""
        with self._turn:
            return self._places.index(place) if place in self._places else None

    def before(self, owner: str) -> int:
        """Count those in line before this owner's first place, else all."""
        with self._turn:
            owners = [one.owner for one in self._places]
        return owners.index(owner) if owner in owners else len(owners)

    def _has_turn(self, place: Place) -> bool:
        return place in self._places[: self._limits.concurrent]

    def _check_room(self, owner: str) -> None:
        limits, here = self._limits, address()
        mine = sum(one.owner == owner for one in self._places)
        if mine >= limits.runs_per_visitor:
            raise AppError(
                f"You already have {mine} runs running or waiting; at most "
                f"{limits.runs_per_visitor} are allowed. Stop one or wait for it to end."
            )
        near = sum(one.address == here for one in self._places) if here else 0
        if 0 < limits.runs_per_address <= near:
            raise AppError(
                f"{near} runs from your network are running or waiting, the most that are "
                "allowed. Try again when one has ended."
            )
        if len(self._places) >= limits.line:
            raise AppError(
                f"{len(self._places)} runs are waiting for the model, the most that are allowed. "
                "Try again in a minute."
            )
