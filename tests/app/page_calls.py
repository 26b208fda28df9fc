"""The pages' handlers, called as the server calls them; questions and answers are JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.pages.shared.uploads import upload_route
from app.site.ui import UPLOADS
from app.web.calls import server_functions
from app.web.services import Services

__all__ = ["ANNA", "BEN", "Call", "Send", "caller", "sender"]

ANNA, BEN = "a" * 32, "b" * 32
Call = Callable[..., dict[str, Any]]
Send = Callable[..., dict[str, Any]]


def caller(services: Services, *handlers: Mapping[str, Any]) -> Call:
    """A function that asks a handler by its name, as Anna unless another owner is given."""
    merged = {name: handler for some in handlers for name, handler in some.items()}
    by_name = {made.__name__: made for made in server_functions(services, merged)}

    def invoke(name: str, owner: str = ANNA, /, **request: Any) -> dict[str, Any]:
        answer = by_name[name]([{"owner": owner, **request}])
        json.dumps(answer, allow_nan=False)
        return dict(orjson.loads(orjson.dumps(answer)))

    return invoke


def sender(services: Services) -> Send:
    """A function that sends a file by its kind, name and bytes, as Anna unless another is given."""
    client = TestClient(Starlette(routes=[upload_route(services, UPLOADS)]))

    def invoke(
        kind: str, name: str, data: Any, owner: str = ANNA, **headers: str
    ) -> dict[str, Any]:
        asked = {"kind": kind, "owner": owner, "name": name}
        answer = client.post("/gradio_api/sol-upload", params=asked, content=data, headers=headers)
        assert answer.status_code == 200
        return dict(answer.json())

    return invoke
