"""The pages' handlers, called as the server calls them; questions and answers are JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from app.web.calls import server_functions
from app.web.services import Services

__all__ = ["ANNA", "BEN", "Call", "caller"]

ANNA, BEN = "a" * 32, "b" * 32
Call = Callable[..., dict[str, Any]]


def caller(services: Services, *handlers: Mapping[str, Any]) -> Call:
    """A function that asks a handler by its name, as Anna unless another owner is given."""
    merged = {name: handler for some in handlers for name, handler in some.items()}
    by_name = {made.__name__: made for made in server_functions(services, merged)}

    def invoke(name: str, owner: str = ANNA, /, **request: Any) -> dict[str, Any]:
        answer = by_name[name]([{"owner": owner, **request}])
        json.dumps(answer, allow_nan=False)
        return dict(orjson.loads(orjson.dumps(answer)))

    return invoke
