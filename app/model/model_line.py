"""The line for the model: addresses take turns in it, and at an address its visitors do.

Every turn of an address costs it one; the address that has spent least is next, and of those the
one that came first. Newcomers begin half a turn behind the one that is served: before the second
turn of those who have had one, and after all whom other newcomers have kept waiting. So nobody
gains by leaving and coming back under another name, and nobody waits for ever.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from app.host.limits import Limits, Shares
from app.host.visitor import address

NEWCOMER = 0.5  # turns


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """A run or a question in line; ``number`` were taken before it, ``address`` may be unknown."""

    owner: str
    address: str | None
    number: int


class _Turns:
    """Turns that each of those in line has spent; ``key`` says whose a place is."""

    def __init__(self, key: Callable[[Place], Hashable]) -> None:
        self._key = key
        self._spent: dict[Hashable, float] = {}
        self._clock = 0.0  # what the last one to be served had spent

    def enter(self, place: Place, waiting: Sequence[Place]) -> None:
        """Note a place beside those that wait already."""
        key = self._key(place)
        if key not in map(self._key, waiting):
            self._spent[key] = max(self._spent.get(key, 0.0), self._clock + NEWCOMER)

    def serve(self, place: Place) -> None:
        key = self._key(place)
        self._clock = max(self._clock, self._spent[key])
        self._spent[key] += 1

    def leave(self, line: Sequence[Place]) -> None:
        """Forget those who would come back as newcomers."""
        here = set(map(self._key, line))
        newcomer = self._clock + NEWCOMER
        self._spent = {
            k: spent for k, spent in self._spent.items() if k in here or spent > newcomer
        }

    def in_turn(self, waiting: Sequence[Place]) -> list[Place]:
        """Those that wait, as they will be served; those of one key keep their order."""
        rounds: Counter[Hashable] = Counter()
        costs: dict[Place, tuple[float, int]] = {}
        for place in waiting:
            key = self._key(place)
            costs[place] = (self._spent[key] + rounds[key], place.number)
            rounds[key] += 1
        return sorted(waiting, key=lambda place: costs[place])


class ModelLine:
    """The runs and questions that the model works on, and those that wait for it."""

    def __init__(self, limits: Limits) -> None:
        self._concurrent = limits.concurrent
        self._shares = Shares(
            "runs running or waiting",
            limits.runs_per_visitor,
            limits.runs_per_address,
            limits.queue,
            "Stop one, or try again when one has ended.",
        )
        self._served: list[Place] = []
        self._waiting: list[Place] = []  # as they came
        self._addresses = _Turns(lambda place: place.address)
        self._owners: dict[str | None, _Turns] = {}  # of every address in line
        self._taken = 0
        self._turn = threading.Condition()

    def enter(self, owner: str) -> Place:
        """A new place in the queue, which must be left again. Raises: AppError beyond a limit."""
        here = address()
        with self._turn:
            self._shares.check([*self._served, *self._waiting], owner, here)
            place = Place(owner, here, self._taken)
            self._taken += 1
            for turns in self._turns_of(place):
                turns.enter(place, self._waiting)
            self._waiting.append(place)
            self._serve()
        return place

    def leave(self, place: Place) -> None:
        with self._turn:
            (self._served if place in self._served else self._waiting).remove(place)
            line = [*self._served, *self._waiting]
            for turns in self._turns_of(place):
                turns.leave(line)
            if place.address not in {waiting.address for waiting in line}:
                del self._owners[place.address]
            self._serve()
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
            self._turn.wait_for(lambda: place in self._served or should_stop(), timeout_s)
            return place in self._served

    def wake(self) -> None:
        """Have those that wait ask again whether to stop."""
        with self._turn:
            self._turn.notify_all()

    def number(self, place: Place) -> int | None:
        """Return the number of turns before that of a place; None when it was left."""
        with self._turn:
            line = self._line()
            return line.index(place) if place in line else None

    def before(self, owner: str) -> int:
        """Count those in line before this owner's first place, else all."""
        with self._turn:
            owners = [place.owner for place in self._line()]
        return owners.index(owner) if owner in owners else len(owners)

    def _line(self) -> list[Place]:
        """Those whose turn it is, then the others as it will be theirs."""
        waiting = []
        for here, owners in self._owners.items():
            waiting += owners.in_turn([place for place in self._waiting if place.address == here])
        return self._served + self._addresses.in_turn(waiting)

    def _turns_of(self, place: Place) -> tuple[_Turns, _Turns]:
        """Among the addresses, and among the visitors of this one."""
        owners = self._owners.setdefault(
            place.address, _Turns(lambda held: (held.address, held.owner))
        )
        return self._addresses, owners

    def _serve(self) -> None:
        while self._waiting and len(self._served) < self._concurrent:
            place = self._line()[len(self._served)]
            self._waiting.remove(place)
            self._served.append(place)
            for turns in self._turns_of(place):
                turns.serve(place)
