"""Bodies of the page's calls: small enough, few large ones at a time, and counted before parsed.

Two megabytes of ``[[[]]],`` keep Python busy for a second, and Gradio parses every call again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from app.host import memory
from app.host.errors import AppError
from app.host.json_size import has_more
from app.host.visitor import address_of

# The largest call of a page has an action, three numbers, for each of 4,096 tokens.
MOST_CONTAINERS, MOST_COMMAS = 10_000, 50_000
LARGE_BYTES, LARGE_OF_ADDRESS = 256 * 1024, 2  # calls that are read and answered at a time
# Gradio keeps something for every session that it hears of, under the name that it was sent.
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


class RequestRefusedError(AppError):
    """A request that no page of ours makes, or too much at once; ``status`` is HTTP's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class CallBodies:
    """Reads calls to the ``components`` of a page, of ``most`` bytes."""

    most: int
    components: Container[int]
    _large: Counter[str | None] = field(default_factory=Counter)  # at work, by address

    @asynccontextmanager
    async def read(self, scope: Scope, receive: Receive) -> AsyncIterator[Receive]:
        """A ``receive`` of the whole call, which is at work in the block.

        Raises: RequestRefusedError.
        """
        address, size, more = address_of(Request(scope)), 0, True
        chunks: list[bytes] = []
        is_large, announced = False, _announced(scope)
        try:
            while more:
                if max(size, announced) > LARGE_BYTES and not is_large:
                    self._enter(address)
                    is_large = True
                message = await receive()
                chunks.append(message.get("body", b""))
                size, more = size + len(chunks[-1]), message.get("more_body", False)
                if size > self.most:
                    raise self.too_large()
            body = b"".join(chunks)
            chunks.clear()
            if not is_call(body, self.components):
                raise RequestRefusedError(400, "This is no call of the page. Reload the page.")
            yield _replaying(body, receive)
        finally:
            if is_large:
                self._large[address] -= 1
                if not self._large[address]:
                    del self._large[address]
                memory.give_back()

    def too_large(self) -> RequestRefusedError:
        return RequestRefusedError(
            413,
            f"A call may have {self.most / 1024**2:.1f} MiB. Send less at a time; the server's "
            "owner can raise the limit of characters in SOL_LIMITS, on which it depends.",
        )

    def _enter(self, address: str | None) -> None:
        if self._large[address] >= LARGE_OF_ADDRESS:
            raise RequestRefusedError(
                429,
                f"Your network already has {LARGE_OF_ADDRESS} large calls at work. Try again when "
                "they are answered.",
            )
        self._large[address] += 1


def is_call(body: bytes, components: Container[int]) -> bool:
    """Return whether a body is a JSON object with a component of the page and a session's name."""
    if has_more(body, MOST_CONTAINERS, MOST_COMMAS):
        return False
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(call, dict):
        return False
    session, component = call.get("session_hash"), call.get("component_id")
    is_named = isinstance(session, str) and _SESSION.fullmatch(session) is not None
    return is_named and isinstance(component, int) and component in components


def _announced(scope: Scope) -> int:
    """The size that a request's head tells, which may be wrong; 0 where it tells none."""
    text = Headers(scope=scope).get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 16 else 0


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body, then goes on as the original does."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
