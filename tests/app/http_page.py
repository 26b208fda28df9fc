"""Calls to a served page as its scripts make them, over HTTP."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HttpPage"]

Answer = dict[str, Any]


@dataclass
class HttpPage:
    """One visitor of a server.

    Attributes:
        headers: sent with every call.
    """

    url: str
    owner: str
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with urllib.request.urlopen(f"{self.url}config", timeout=30) as answer:
            components = json.load(answer)["components"]
        self._ids = {one["props"].get("elem_id"): one["id"] for one in components}

    def call(self, tab: str, function: str, /, **request: Any) -> Answer:
        """A server function's answer."""
        body = {
            "data": {"owner": self.owner, **request},
            "fn_name": function,
            "component_id": self._ids[f"{tab}-page"],
            "session_hash": "test",
        }
        sent = urllib.request.Request(
            f"{self.url}gradio_api/component_server",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **self.headers},
        )
        with urllib.request.urlopen(sent, timeout=60) as answer:
            return dict(json.load(answer))

    def start(self, prompt: str, **settings: Any) -> str:
        """Begin a generation; returns its id."""
        base = {"max_new_tokens": 6, "ignore_end_of_text": True, "chat": False}
        answer = self.call("explore", "start_run", prompt=prompt, settings=base | settings)
        assert "refused" not in answer, answer
        return str(answer["run_id"])

    def poll(self, run_id: str, tab: str = "explore") -> Answer:
        return self.call(tab, "poll_run", run_id=run_id, cursor=0)

    def wait(
        self,
        run_id: str,
        tab: str = "explore",
        until: Callable[[Answer], bool] = lambda view: not view["live"],
        seconds: float = 60.0,
    ) -> Answer:
        """The run's view once it has ended, or ``until`` says so."""
        gives_up_at = time.monotonic() + seconds
        while not until(view := self.poll(run_id, tab)):
            assert time.monotonic() < gives_up_at, f"waited {seconds} s in vain: {view}"
            time.sleep(0.05)
        return view
