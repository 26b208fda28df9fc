"""Turns of an address's answers: few of its files and pages are made at a time, the others wait.

The page itself takes milliseconds and a quarter of a megabyte, and who asks for it on every
connection at once would have them all at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.site.call_bodies import RequestRefusedError

AT_ONCE, MOST_WAITING = 16, 256  # of one address


class AnswerTurns:
    """Semaphores of the addresses that are asking; ``on_wait`` hears of one that must wait."""

    def __init__(self, on_wait: Callable[[str | None], None] = lambda address: None) -> None:
        self._on_wait = on_wait
        self._turns: dict[str | None, asyncio.Semaphore] = {}
        self._asking: dict[str | None, int] = {}  # answers that are made or wait

    def is_waited_for(self, address: str | None) -> bool:
        return self._asking.get(address, 0) > AT_ONCE

    @asynccontextmanager
    async def turn(self, address: str | None) -> AsyncIterator[None]:
        """Wait until few answers to an address are made at once; hold the turn meanwhile.

        Raises: RequestRefusedError.
        """
        asking = self._asking.get(address, 0)
        if asking >= AT_ONCE + MOST_WAITING:
            raise RequestRefusedError(429, "Your network asks for too much at once. Try again.")
        self._asking[address] = asking + 1
        try:
            if self.is_waited_for(address):
                self._on_wait(address)
            async with self._turns.setdefault(address, asyncio.Semaphore(AT_ONCE)):
                yield
        finally:
            self._asking[address] -= 1
            if not self._asking[address]:
                del self._asking[address], self._turns[address]
