"""Asks the server what a page of ours asks, over HTTP, without a browser."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, Self

import httpx

from app.host.errors import AppError

TIMEOUT_S = 60.0
_CONFIG = "window.gradio_config = "
_JSON = {"Content-Type": "application/json"}


class RefusedError(AppError, RuntimeError):
    """The server said no, or did not answer as it should."""


class PageClient:
    """One visitor: the page, its settings, then its calls."""

    def __init__(
        self,
        url: str,
        owner: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        address: str | None = None,  # of this machine, to ask from
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.owner = owner or secrets.token_hex(16)
        self.waits_ms: list[float] = []
        # The proxy of the environment is not for this machine's own addresses.
        transport = httpx.HTTPTransport(local_address=address, trust_env=False)
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout_s, transport=transport
        )
        self._session = secrets.token_hex(6)
        self.components: dict[str, int] = {}

    def open(self) -> None:
        """Load the page, which says what it is made of."""
        page = self._http.get("/").raise_for_status().text
        config, _ = json.JSONDecoder().raw_decode(page.partition(_CONFIG)[2])
        for component in config["components"]:
            name = str(component["props"].get("elem_id") or "")
            if name.endswith("-page"):
                self.components[name.removesuffix("-page")] = component["id"]

    def ask(self, tab: str, function: str, **request: Any) -> dict[str, Any]:
        """Call a handler of a tab. Raises: RefusedError."""
        content = self.call(tab, function, **request)
        if "refused" in content:
            raise RefusedError(f"{function}: {content['refused']}")
        return content

    def call(self, tab: str, function: str, /, **request: Any) -> dict[str, Any]:
        """A handler's answer, be it a refusal. Raises: RefusedError when there is no answer."""
        status, text = self.raw(tab, function, {"owner": self.owner, **request})
        if status != httpx.codes.OK:
            raise RefusedError(f"{function} was answered with status {status}")
        content: dict[str, Any] = json.loads(text)
        return content

    def raw(self, tab: str, function: str, request: dict[str, Any]) -> tuple[int, str]:
        """Status and text of the answer to exactly this request."""
        body = {
            "session_hash": self._session,
            "component_id": self.components[tab],
            "fn_name": function,
            "data": [request],
        }
        began = time.perf_counter()
        answer = self._http.post(
            "/gradio_api/component_server/", content=json.dumps(body), headers=_JSON
        )
        self.waits_ms.append(1000 * (time.perf_counter() - began))
        return answer.status_code, answer.text

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
