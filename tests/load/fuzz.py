"""Strangers who ask for anything but the page, for as long as one likes, and the server's memory.

They ask through every handler and every door, whole and broken, under ever new ids.
``python tests/app/load_stand_in.py strangers MINUTES`` lets them loose on a public page with the
stand-in engine; ``docs/security.md`` has the figures.
"""

from __future__ import annotations

import json
import random
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.load.page_client import PageClient
from tests.load.processes import Processes, address_of, running
from tests.load.trial import memory_mb

WARM_UP_S = 600.0  # growth counts from here on, or from half of a shorter trial
PACE_S = 0.02  # between two requests: other work shares the machine
SAMPLE_S = 30.0
_JSON = {"Content-Type": "application/json"}
_PATHS = ("queue/join", "queue/data", "run/predict", "api/predict", "call/x", "deep_link", "upload",
          "info", "heartbeat/x", "reset", "cancel", "file=/etc/passwd", "stream/x", "monitoring",
          "component_server", "component_server/", "sol-modules/x/y.js")  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**30, 0.5, float("nan"), "", "x", "\ud800", "\0", "../..", "json",
    "run", "policy:default", "a" * 5000, [], {}, [[[]]], {"a": {"b": []}}, "compare", "a" * 32,
)  # fmt: skip
Handlers = list[tuple[str, str, list[str]]]  # tab, function, fields


class _Strangers:
    """One source of requests; what it was answered is counted by status."""

    def __init__(self, url: str, handlers: Handlers, seed: int) -> None:
        self.url, self.handlers, self.random = url, handlers, random.Random(seed)
        self.answers: Counter[str] = Counter()
        self.page = PageClient(url)
        self.page.open()
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def close(self) -> None:
        self.page.close()
        self.http.close()

    def act(self) -> None:
        """One request of some kind; a connection that the server ends is an answer too."""
        acts: tuple[Callable[[], str], ...] = (self.shut, self.garbled, self.run, self.half)
        act = self.random.choices((self.handler, *acts), (60, 15, 10, 12, 3))[0]
        try:
            self.answers[act()] += 1
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1

    def handler(self) -> str:
        tab, name, fields = self.random.choice(self.handlers)
        request = {one: self.random.choice(_VALUES) for one in fields}
        return str(self.page.raw(tab, name, {"owner": self.somebody()} | request)[0])

    def shut(self) -> str:
        path = "/gradio_api/" + self.random.choice(_PATHS)
        body = {"session_hash": "s" * self.random.choice((5, 500, 2_000_000)), "data": [],
                "fn_index": 0, "component_id": self.random.choice((0, 1, 10**9))}  # fmt: skip
        method = self.random.choice(("GET", "POST", "POST", "PUT"))
        content = json.dumps(body) if method != "GET" else None
        return str(self.http.request(method, path, content=content, headers=_JSON).status_code)

    def garbled(self) -> str:
        whole = json.dumps({"session_hash": secrets.token_hex(6), "component_id": 5,
                            "fn_name": "home", "data": [{"owner": "a" * 32}]})  # fmt: skip
        at = self.random.randrange(len(whole))
        content = whole[:at] + self.random.choice(("", "\\", "}", "[" * 5000, "9" * 5000))
        address, content = "/gradio_api/component_server/", content + whole[at + 1 :]
        return str(self.http.post(address, content=content, headers=_JSON).status_code)

    def run(self) -> str:
        """A generation that is started, looked at, sometimes stopped or exported."""
        owner = {"owner": self.somebody()}
        settings = {"max_new_tokens": self.random.choice((1, 8, 64)), "ignore_end_of_text": True}
        asked = {"prompt": "sea " * self.random.choice((1, 300)), "settings": settings}
        status, text = self.page.raw("explore", "start_run", owner | asked)
        run_id = json.loads(text).get("run_id")
        for name, about in (
            ("poll_run", {"run_id": run_id, "cursor": 0}),
            ("stop_run", {"run_id": run_id}),
            ("export_file", {"kind": "run", "id": run_id, "form": "html"}),
        ):
            if run_id is not None and self.random.random() < 0.5:
                self.page.raw("explore", name, owner | about)
        return str(status)

    def half(self) -> str:
        """A head that is never sent whole."""
        parts = urlsplit(self.url)
        with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=5) as line:
            line.sendall(b"POST /gradio_api/component_server/ HTTP/1.1\r\nHost: localhost\r\n")
        return "half a head"

    def somebody(self) -> str:
        return self.random.choice(("a" * 32, secrets.token_hex(16)))


def strangers_report(
    processes: Processes, minutes: float, handlers: Handlers, seed: int = 0
) -> dict[str, Any]:
    """Let strangers loose on a server for some minutes; returns a JSON-ready report.

    ``growth_mb`` is what the server's memory grew by after the warm-up, largest sample of the last
    tenth less that at its end. Raises: AppError when the server does not start.
    """
    data_dir = processes.data_dir
    data_dir.prepare()
    with ExitStack() as started:
        server = started.enter_context(running(processes.server, data_dir.logs / "server.out"))
        strangers = _Strangers(address_of(data_dir, server), handlers, seed)
        started.callback(strangers.close)
        began = time.monotonic()
        samples: list[tuple[float, float]] = []
        while (now := time.monotonic() - began) < 60 * minutes and server.poll() is None:
            if not samples or now - samples[-1][0] > min(SAMPLE_S, 6 * minutes):
                samples.append((now, memory_mb(server.pid, "VmRSS") or 0.0))
            strangers.act()
            time.sleep(PACE_S)
        took_s, lives = time.monotonic() - began, server.poll() is None
    warm_s = min(WARM_UP_S, took_s / 2)
    at_warm = next((mb for at, mb in samples if at >= warm_s), samples[-1][1])
    last = max(mb for at, mb in samples if at >= 0.9 * samples[-1][0])
    log = (data_dir.logs / "server.out").read_text("utf-8", "replace")
    return {
        "minutes": round(took_s / 60, 1),
        "answers": dict(strangers.answers.most_common()),
        "server_lives": lives,
        "tracebacks": log.count("Traceback"),
        "memory_mb": {"warm": at_warm, "last": last, "peak": max(mb for _, mb in samples)},
        "growth_mb": round(last - at_warm, 1),
        "samples": [(round(at), round(mb)) for at, mb in samples],
    }
