"""Bounds of the server's connections: how many an address has, and how long a request may take.

uvicorn waits for a request's head and body for ever, and takes connections until the process has no
file descriptors left, with which it could open its database or a file either.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from app.host.hosting import is_space
from app.pages.shared.uploads import UPLOADS_PLACE

# Seconds from a request's first byte, or a connection's start, to the end of each part.
DEADLINES = {"head": 15.0, "body": 120.0, "upload": 1800.0, "answer": 600.0}
# A class of thirty behind one address, with up to six connections of each browser.
MOST_OF_ADDRESS = 256
OTHER_FILES = 256  # descriptors for all else: the database, the model, threads' files
USUAL_FILES = 1024  # where the system does not tell


class Doorman:
    """Counts connections; beyond ``most`` the longest of the ``unfinished`` makes room."""

    def __init__(self, most: int, of_address: int, proxies: frozenset[str] = frozenset()) -> None:
        self._most, self._of_address, self._proxies = most, of_address, proxies
        self._open: Counter[str] = Counter()
        self.unfinished: dict[Any, None] = {}

    @classmethod
    def of_server(cls, environment: Mapping[str, str] = os.environ) -> Doorman:
        proxies = ["*"] if is_space() else environment.get("FORWARDED_ALLOW_IPS", "").split(",")
        return cls(
            max(_most_files() - OTHER_FILES, 16),
            MOST_OF_ADDRESS,
            frozenset(filter(None, map(str.strip, proxies))),
        )

    def enter(self, address: str) -> bool:
        """Count a connection, unless there are too many; returns whether it may stay."""
        is_shared = address in self._proxies or "*" in self._proxies
        if not is_shared and self._open[address] >= self._of_address:
            return False
        if self._open.total() >= self._most:
            oldest = next(iter(self.unfinished), None)
            if oldest is None:
                return False
            del self.unfinished[oldest]
            oldest.abort()
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class BoundedConnection(asyncio.Protocol):
    """Half of a connection, uvicorn's before it: refused by the doorman, ended at a deadline."""

    cycle: Any  # uvicorn's, of the newest request whose head has come
    _doorman: Doorman
    _address: str | None = None  # while it is counted
    _part: tuple[str, Any] | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._doorman.enter(address):
            transport.abort()
            return
        self._address = address
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._doorman.unfinished.pop(self._transport, None)
        if self._address is not None:
            self._doorman.leave(self._address)
            self._address = None
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is not None:
            super().data_received(data)
            self._watch()

    def _watch(self) -> None:
        """Set the alarm of the part that has begun; a part that goes on keeps its own."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            part = "head"
        else:
            is_upload = cycle.scope["path"].endswith(UPLOADS_PLACE)
            part = ("upload" if is_upload else "body") if cycle.more_body else "answer"
        if (part, cycle) == self._part:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._part = part, cycle
        self._doorman.unfinished.pop(self._transport, None)
        if part != "answer":
            self._doorman.unfinished[self._transport] = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(DEADLINES[part], self._transport.abort)


def bound_connections(server: Any, doorman: Doorman) -> None:
    """Bound the connections that a running ``uvicorn.Server`` takes from now on."""
    halves = BoundedConnection, server.config.http_protocol_class
    server.config.http_protocol_class = type("Bounded", halves, {"_doorman": doorman})
    server.config.ws_protocol_class = None  # it would take the connection over, uncounted


def _most_files() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return USUAL_FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return USUAL_FILES if soft == resource.RLIM_INFINITY else soft
