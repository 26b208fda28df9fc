"""Bounds of the server's connections: how many an address has, and how long a request may take.

uvicorn waits for a request's head and body for ever, and takes connections until the process has no
file descriptors left, with which it could open its database or a file either. asyncio accepts as
many in one go as its backlog has, before anybody counts them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain
from typing import Any

from app.host import memory
from app.host.hosting import is_space
from app.pages.shared.uploads import UPLOADS_PATH
from app.site.answer_turns import AnswerTurns

# Seconds from a request's first byte, or a connection's start, to the end of each part.
PROGRESS_S = 15.0  # an answer of which nobody reads anything for so long makes room
DEADLINES = {"head": 15.0, "body": 120.0, "upload": 1800.0, "answer": 600.0}
# A class of thirty behind one address, with up to six connections of each browser.
MOST_OF_ADDRESS = 256
ADDRESSES = 4  # that it takes at least to fill a server with few file descriptors
MOST_OF_ALL = 4096  # each takes memory, too
OTHER_FILES = 256  # descriptors for all else: the database, the model, threads' files
CROWD = 64  # connections that leave memory to be given back
READ_BYTES = 64 * 1024  # at a time; asyncio would read 256 KiB of every connection
BACKLOG, ACCEPTED_AT_ONCE = 128, 16  # connections that the system keeps waiting, and one go takes
TOO_MANY_FILES = "socket.accept() out of system resource"  # which asyncio says at each attempt
MANY_FILES = 65_536  # that a process asks for, where it may have as many
USUAL_FILES = 1024  # where the system does not tell


class ConnectionLimiter:
    """Counts connections; beyond ``most`` the oldest of the ``unfinished`` or ``unread`` goes."""

    def __init__(self, most: int, of_address: int, proxies: frozenset[str] = frozenset()) -> None:
        self._most, self._of_address, self._proxies = most, of_address, proxies
        self._open: Counter[str] = Counter()
        self._crowd = 0  # the most that were open since memory was given back
        self.unfinished: dict[Any, None] = {}
        self.unread: dict[Any, str] = {}  # with their addresses
        self.turns = AnswerTurns(self._drop_unread_of)

    @classmethod
    def of_server(cls, environment: Mapping[str, str] = os.environ) -> ConnectionLimiter:
        proxies = ["*"] if is_space() else environment.get("FORWARDED_ALLOW_IPS", "").split(",")
        most = max(min(_most_files() - OTHER_FILES, MOST_OF_ALL), 16)
        return cls(
            most,
            min(MOST_OF_ADDRESS, most // ADDRESSES),
            frozenset(filter(None, map(str.strip, proxies))),
        )

    def enter(self, address: str) -> bool:
        """Count a connection, unless there are too many; returns whether it may stay."""
        is_shared = address in self._proxies or "*" in self._proxies
        if not is_shared and self._open[address] >= self._of_address:
            return False
        if self._open.total() >= self._most:
            oldest = next(chain(self.unfinished, self.unread), None)
            if oldest is None:
                return False
            self._drop(oldest)
        self._open[address] += 1
        self._crowd = max(self._crowd, self._open.total())
        return True

    def note_unread(self, transport: Any, address: str) -> None:
        """Let an answer make room, at once where its address waits for its turn."""
        self.unread.setdefault(transport, address)
        if self.turns.is_waited_for(address):
            self._drop(transport)

    def _drop_unread_of(self, address: str | None) -> None:
        if unread := [transport for transport, of in self.unread.items() if of == address]:
            self._drop(unread[0])

    def _drop(self, transport: Any) -> None:
        self.forget(transport)
        transport.abort()

    def forget(self, transport: Any) -> None:
        """Never drop this connection to make room for another."""
        self.unfinished.pop(transport, None)
        self.unread.pop(transport, None)

    def leave(self, address: str) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]
        if self._crowd > CROWD and self._open.total() <= self._crowd // 8:
            self._crowd = self._open.total()
            memory.give_back()  # each had its answer


class BoundedConnection(asyncio.Protocol):
    """A mixin for uvicorn's protocols: refused by the limiter, ended at a deadline."""

    cycle: Any  # uvicorn's, of the newest request whose head has come
    _limiter: ConnectionLimiter
    _address: str | None = None  # while it is counted
    _part: tuple[str, Any] | None = None
    _timer: asyncio.TimerHandle | None = None
    _progress_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._limiter.enter(address):
            transport.abort()
            return
        self._address = address
        transport.set_write_buffer_limits(0)  # an answer is written once the system has all of it
        transport.max_size = READ_BYTES
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in filter(None, (self._timer, self._progress_timer)):
            timer.cancel()
        self._limiter.forget(self._transport)
        if self._address is not None:
            self._limiter.leave(self._address)
            self._address = None
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is not None:
            super().data_received(data)
            self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_for_progress(None)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._progress_timer is not None:
            self._progress_timer.cancel()
        self._limiter.unread.pop(self._transport, None)

    def _look_for_progress(self, before: int | None) -> None:
        """See, now and again, whether fewer bytes of an answer are left than ``before``."""
        left = self._transport.get_write_buffer_size()
        if before is None or left < before:
            self._limiter.unread.pop(self._transport, None)
        else:
            self._limiter.note_unread(self._transport, self._address or "")
        loop = asyncio.get_running_loop()
        self._progress_timer = loop.call_later(PROGRESS_S, self._look_for_progress, left)

    def _watch(self) -> None:
        """Set the alarm of the part that has begun; a part that goes on keeps its own."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            part = "head"
        else:
            is_upload = cycle.scope["path"].endswith(UPLOADS_PATH)
            part = ("upload" if is_upload else "body") if cycle.more_body else "answer"
        if (part, cycle) == self._part:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._part = part, cycle
        self._limiter.unfinished.pop(self._transport, None)
        if part != "answer":
            self._limiter.unfinished[self._transport] = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(DEADLINES[part], self._transport.abort)


@contextmanager
def bounding_connections(limiter: ConnectionLimiter) -> Iterator[None]:
    """Bound the connections of the ``uvicorn.Server`` that Gradio makes in the block."""
    import uvicorn

    class BoundedConfig(uvicorn.Config):
        def load(self) -> None:
            super().load()
            halves: Any = BoundedConnection, self.http_protocol_class
            self.http_protocol_class = type("Bounded", halves, {"_limiter": limiter})
            self.ws_protocol_class = None  # it would take the connection over, uncounted
            self.backlog = ACCEPTED_AT_ONCE

    logging.getLogger("asyncio").addFilter(_once_a_minute(TOO_MANY_FILES))
    usual = uvicorn.Config
    setattr(uvicorn, "Config", BoundedConfig)  # noqa: B010  # a type, for mypy
    try:
        yield
    finally:
        setattr(uvicorn, "Config", usual)  # noqa: B010


def widen_backlog(server: Any) -> None:
    """Let the system keep more connections waiting than a running server accepts in one go."""
    for listener in server.servers:
        for listening in listener.sockets:
            with listening.dup() as same:
                same.listen(BACKLOG)


@cache
def _once_a_minute(text: str) -> Callable[[logging.LogRecord], bool]:
    """A filter of a logger: a message with this text is one line, and the next a minute later."""
    ends_at = 0.0

    def is_said(record: logging.LogRecord) -> bool:
        nonlocal ends_at
        message = record.getMessage()
        if text not in message:
            return True
        if (now := time.monotonic()) < ends_at:
            return False
        ends_at = now + 60.0
        record.msg, record.args = message.partition("\n")[0], ()
        record.exc_info = record.exc_text = None
        return True

    return is_said


def raise_file_limit() -> None:
    """Let this process have as many files open as the system allows it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _most_files() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return USUAL_FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return USUAL_FILES if soft == resource.RLIM_INFINITY else soft
