"""The queue for the model: addresses take turns in it, and at an address its visitors do.

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

from app.host.limits import Limits, Quota
from app.host.visitor import address

NEWCOMER = 0.5  # turns
LESSONS = "lessons"  # owner of the lessons' measurements; no visitor's id looks like this


@dataclass(frozen=True, eq=False, slots=True)
class Ticket:
    """A queued run or question; ``number`` were taken before it, ``address`` may be unknown."""

    owner: str
    address: str | None
    number: int


class _Turns:
    """Turns that each of those in the queue has spent; ``key`` says whose a ticket is."""

    def __init__(self, key: Callable[[Ticket], Hashable]) -> None:
        self._key = key
        self._spent: dict[Hashable, float] = {}
        self._clock = 0.0  # what the last one to be served had spent

    def enter(self, ticket: Ticket, waiting: Sequence[Ticket]) -> None:
        """Note a ticket beside those that wait already."""
        key = self._key(ticket)
        if key not in map(self._key, waiting):
            self._spent[key] = max(self._spent.get(key, 0.0), self._clock + NEWCOMER)

    def serve(self, ticket: Ticket) -> None:
        key = self._key(ticket)
        self._clock = max(self._clock, self._spent[key])
        self._spent[key] += 1

    def leave(self, left: Sequence[Ticket]) -> None:
        """Forget those who would come back as newcomers."""
        here = set(map(self._key, left))
        newcomer = self._clock + NEWCOMER
        self._spent = {
            k: spent for k, spent in self._spent.items() if k in here or spent > newcomer
        }

    def in_turn(self, waiting: Sequence[Ticket]) -> list[Ticket]:
        """Those that wait, as they will be served; those of one key keep their order."""
        rounds: Counter[Hashable] = Counter()
        costs: dict[Ticket, tuple[float, int]] = {}
        for ticket in waiting:
            key = self._key(ticket)
            costs[ticket] = (self._spent[key] + rounds[key], ticket.number)
            rounds[key] += 1
        return sorted(waiting, key=lambda ticket: costs[ticket])


class ModelQueue:
    """The runs and questions that the model works on, and those that wait for it."""

    def __init__(self, limits: Limits) -> None:
        self._concurrent = limits.concurrent
        self._quota = Quota(
            "runs running or waiting",
            limits.runs_per_visitor,
            limits.runs_per_address,
            limits.queue,
            "Stop one, or try again when one has ended.",
        )
        self._served: list[Ticket] = []
        self._waiting: list[Ticket] = []  # as they came
        self._addresses = _Turns(lambda ticket: ticket.address)
        self._owners: dict[str | None, _Turns] = {}  # of every address in the queue
        self._taken = 0
        self._turn = threading.Condition()

    def enter(self, owner: str) -> Ticket:
        """A new ticket in the queue, which must be left again. Raises: AppError beyond a limit."""
        here = address()
        with self._turn:
            self._quota.check([*self._served, *self._waiting], owner, here)
            ticket = Ticket(owner, here, self._taken)
            self._taken += 1
            for turns in self._turns_of(ticket):
                turns.enter(ticket, self._waiting)
            self._waiting.append(ticket)
            self._serve()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        with self._turn:
            (self._served if ticket in self._served else self._waiting).remove(ticket)
            left = [*self._served, *self._waiting]
            for turns in self._turns_of(ticket):
                turns.leave(left)
            if ticket.address not in {waiting.address for waiting in left}:
                del self._owners[ticket.address]
            self._serve()
            self._turn.notify_all()

    @contextlib.contextmanager
    def held(self, owner: str) -> Iterator[Ticket]:
        """A ticket for as long as it is needed. Raises: as ``enter``."""
        ticket = self.enter(owner)
        try:
            yield ticket
        finally:
            self.leave(ticket)

    def wait(
        self,
        ticket: Ticket,
        should_stop: Callable[[], bool] = lambda: False,
        timeout_s: float | None = None,
    ) -> bool:
        """Wait for the turn of a ticket, until ``wake`` finds ``should_stop``; whether it came."""
        with self._turn:
            self._turn.wait_for(lambda: ticket in self._served or should_stop(), timeout_s)
            return ticket in self._served

    def wake(self) -> None:
        """Have those that wait ask again whether to stop."""
        with self._turn:
            self._turn.notify_all()

    def ahead(self, ticket: Ticket) -> list[str] | None:
        """Return the owners of the turns before that of a ticket; None when it was left."""
        with self._turn:
            order = self._in_order()
        return [turn.owner for turn in order[: order.index(ticket)]] if ticket in order else None

    def before(self, owner: str) -> int:
        """Count the tickets before this owner's first ticket, else all."""
        with self._turn:
            owners = [ticket.owner for ticket in self._in_order()]
        return owners.index(owner) if owner in owners else len(owners)

    def _in_order(self) -> list[Ticket]:
        """Those whose turn it is, then the others as it will be theirs."""
        waiting = []
        for here, owners in self._owners.items():
            waiting += owners.in_turn(
                [ticket for ticket in self._waiting if ticket.address == here]
            )
        return self._served + self._addresses.in_turn(waiting)

    def _turns_of(self, ticket: Ticket) -> tuple[_Turns, _Turns]:
        """Among the addresses, and among the visitors of this one."""
        owners = self._owners.setdefault(
            ticket.address, _Turns(lambda held: (held.address, held.owner))
        )
        return self._addresses, owners

    def _serve(self) -> None:
        while self._waiting and len(self._served) < self._concurrent:
            ticket = self._in_order()[len(self._served)]
            self._waiting.remove(ticket)
            self._served.append(ticket)
            for turns in self._turns_of(ticket):
                turns.serve(ticket)
