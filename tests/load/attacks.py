"""Five ways to stop a server, each from few addresses of this machine; ``strangers`` runs them.

Each returns when it is over. Attackers have 127.0.0.2 and up, which Linux alone lets them have.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx

from app.site.connections import raise_file_limit
from tests.load.page_client import PageClient, RefusedError

WAVE, WAVES = 15, 4  # uploads at once, and how often
UPLOAD_BYTES = 8 * 1024**2
BURST = "a burst of connections"
BURST_CONNECTIONS, HELD_S = 1400, 20.0
UNREAD_OF_ADDRESS, UNREAD_S = 256, 40.0
COSTLY, COSTLY_BYTES = 32, 2_000_000
BUSY_S = 20.0  # of costly calls, and of jobs
_HEAD = "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
_CALLS = "/gradio_api/component_server/"


@contextlib.contextmanager
def connections_from(url: str, addresses: list[str], count: int) -> Iterator[list[socket.socket]]:
    """As many connections as the server takes, ``count`` of each address, opened at once."""
    raise_file_limit()
    parts, opened = urlsplit(url), contextlib.ExitStack()
    lines = []
    for address in addresses:
        for _ in range(count):
            line = opened.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.bind((address, 0))
            line.setblocking(False)
            line.connect_ex((str(parts.hostname), parts.port or 0))
            lines.append(line)
    time.sleep(0.2)
    with opened:
        yield lines


def refused_imports(url: str) -> None:
    """60 documents of 8 MB with nothing but empty objects, 15 at once from one address."""
    with ThreadPoolExecutor(WAVE) as pool:
        for _ in range(WAVES):
            list(pool.map(lambda _: _upload(url), range(WAVE)))


def burst_of_connections(url: str) -> None:
    """1,400 half-sent heads within a moment, from one address."""
    with connections_from(url, ["127.0.0.2"], BURST_CONNECTIONS) as lines:
        head = _HEAD.format(method="POST", path=_CALLS).encode()
        for line in lines:
            with contextlib.suppress(OSError):
                line.send(head)
        time.sleep(HELD_S)


def unread_answers(url: str) -> None:
    """Three addresses ask for the page on 256 connections each, 30 times over, and never read."""
    addresses = [f"127.0.0.{number}" for number in (2, 3, 4)]
    with connections_from(url, addresses, UNREAD_OF_ADDRESS) as lines:
        asked = (_HEAD.format(method="GET", path="/").encode() + b"\r\n") * 30
        for line in lines:
            with contextlib.suppress(OSError):
                line.send(asked)
        time.sleep(UNREAD_S)


def costly_calls(url: str) -> None:
    """32 connections of one address send 2 MB of nested lists, again and again."""
    content = b"[" + b"[[[]]]," * (COSTLY_BYTES // 7) + b"0]"
    ends_at = time.monotonic() + BUSY_S
    _at_once(COSTLY, lambda client: _post(client, url + _CALLS[1:], content), ends_at)


def floods_of_jobs(url: str) -> None:
    """One address queues evaluations under ever new names, and cancels every second one."""
    with PageClient(url, address="127.0.0.2") as page:
        page.open()
    values = {"budgets": "0.5,0.6,8", "baselines": "static", "texts": 2, "windows": 1, "steps": 4}
    asked = {"kind": "evaluate", "policies": ["default"], "corpus": {"kind": "builtin"},
             "values": values | {"context": 32}}  # fmt: skip
    ends_at = time.monotonic() + BUSY_S

    def work(number: int) -> None:
        with PageClient(url, address="127.0.0.2") as client:
            client.components = page.components
            while time.monotonic() < ends_at:
                with contextlib.suppress(httpx.HTTPError, RefusedError):
                    client.owner = secrets.token_hex(16)
                    made = client.ask("lab", "start_job", **asked)
                    client.ask("lab", "cancel_job", job_id=made["job_id"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


ATTACKS: Mapping[str, Callable[[str], None]] = {
    "refused imports": refused_imports,
    BURST: burst_of_connections,
    "answers that nobody reads": unread_answers,
    "costly JSON": costly_calls,
    "floods of jobs": floods_of_jobs,
}


def _upload(url: str) -> None:
    content = b"[" + b"{}," * (UPLOAD_BYTES // 3 - 1) + b"0]"
    asked = {"kind": "import", "owner": secrets.token_hex(16), "name": "a.json"}
    with _client() as client:
        _post(client, url + "gradio_api/sol-upload", content, asked, "application/octet-stream")


def _at_once(count: int, act: Callable[[httpx.Client], None], ends_at: float) -> None:
    def work() -> None:
        with _client() as client:
            while time.monotonic() < ends_at:
                act(client)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _post(
    client: httpx.Client,
    url: str,
    content: bytes,
    asked: Mapping[str, str] | None = None,
    kind: str = "application/json",
) -> None:
    with contextlib.suppress(httpx.HTTPError):
        client.post(url, params=asked, content=content, headers={"Content-Type": kind})


def _client() -> httpx.Client:
    transport = httpx.HTTPTransport(local_address="127.0.0.2", trust_env=False)
    return httpx.Client(transport=transport, timeout=60)
