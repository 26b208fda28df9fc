"""How the page's scripts call Python: one JSON object in, one JSON object out.

Everything that arrives comes from a browser and is checked here or by the handler; whatever
this project raises on purpose goes back as ``{"refused": message}`` for the page to show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from app.errors import AppError
from app.services import Services
from app.visitor import take_ticket
from sol_core.characters import whole_characters
from sol_core.errors import SolError
from sol_core.fields import MAX_WHOLE
from storage import StorageError

__all__ = ["Handler", "RequestError", "field", "owner_of", "server_functions"]

Request = dict[str, Any]
Handler = Callable[[Services, Request], dict[str, Any]]
ValueT = TypeVar("ValueT")
MAX_NUMBER = 2**53 - 1  # the largest whole number that a browser's numbers tell from the next
_OWNER = re.compile(r"[0-9a-f]{32}")


class RequestError(AppError, ValueError):
    """A call that no page of ours makes."""


def server_functions(
    services: Services, handlers: Mapping[str, Handler]
) -> list[Callable[[Any], dict[str, Any]]]:
    """Functions for ``gr.HTML(server_functions=…)``, one per handler, under the handler's name."""
    return [_server_function(services, name, handler) for name, handler in handlers.items()]


def field(request: Request, name: str, kind: type[ValueT]) -> ValueT:
    """A named value of the request.

    Raises: RequestError when it is missing or of another type.
    """
    value = request.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError(
            f"{name} must be {kind.__name__}, got {type(value).__name__}. Reload the page."
        )
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise RequestError(f"{name} must be at most {MAX_NUMBER:,} in size. Reload the page.")
    return value


def owner_of(request: Request) -> str:
    """The visitor's random id, made and kept by their browser."""
    owner = field(request, "owner", str)
    if not _OWNER.fullmatch(owner):
        raise RequestError("owner must be 32 hexadecimal digits. Reload the page.")
    return owner


def _server_function(
    services: Services, name: str, handler: Handler
) -> Callable[[Any], dict[str, Any]]:
    def call(arguments: Any) -> dict[str, Any]:
        request = arguments[0] if isinstance(arguments, list) and arguments else arguments
        try:
            if not isinstance(request, dict):
                raise RequestError("a call takes one object. Reload the page.")
            take_ticket(request)
            return dict(_sendable(handler(services, _whole(request))))
        except (SolError, StorageError) as error:
            return {"refused": str(error)}

    call.__name__ = name
    return call


def _whole(value: Any) -> Any:
    """The same nested value without halves of characters."""
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _sendable(value: Any) -> Any:
    """The same nested value with what no answer can hold replaced: U+FFFD for halves of
    characters, which imported text may hold, and None for whole numbers beyond 64 bits."""
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, dict):
        return {key: _sendable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sendable(item) for item in value]
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        return None
    return value
