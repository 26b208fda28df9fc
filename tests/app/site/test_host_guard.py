"""The gate before every route: hosts, origins, content types, sizes; and who must still get in."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.site.host_guard import BODY_BYTES, GatePolicy, HostGuard
from sol_core.errors import ConfigError
from tests.app.fake_server import FakeServer, serving

# Gradio leaves the sockets that it probes ports with to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
JSON = {"Content-Type": "application/json"}
SPACE = {"SPACE_ID": "you/sol", "SPACE_HOST": "you-sol.hf.space"}
OPENED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1",
          "Sec-Fetch-Dest": "document"}  # fmt: skip
FRAMED = OPENED | {"Sec-Fetch-Dest": "iframe", "Referer": "https://huggingface.co/"}
OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    with serving(tmp_path_factory.mktemp("guarded")) as running:
        yield running


class Asked:
    """One request with exactly these headers; the answer's status, headers and text."""

    def __init__(
        self, url: str, method: str, path: str, headers: dict[str, str], body: Any = None
    ) -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        self.status, self.headers = answer.status, answer.headers
        # An event stream has no end.
        self.text = "" if "text/event" in answer.headers.get("content-type", "") else (
            answer.read().decode("utf-8", "replace")
        )  # fmt: skip
        connection.close()


# A route of each kind: the page, its description, files, streams, calls of ours and Gradio's.
ROUTES = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/config"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/startup-events"),
    ("GET", "/gradio_api/heartbeat/abc"),
    ("GET", "/gradio_api/queue/data?session_hash=abc"),
    ("GET", "/gradio_api/upload_progress?upload_id=abc"),
    ("GET", "/gradio_api/file=/etc/hostname"),
    ("GET", "/theme.css"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/run/anything"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/login"),
    ("GET", "/no/such/route"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Host": "evil.example"}, 421, "set to it"),
        ({"Host": "127.0.0.1.evil.example:7860"}, 421, "does not answer"),
        ({"Host": "[::1]evil.example"}, 421, "does not answer"),
        ({"Host": "you-sol.hf.space"}, 421, "does not answer"),
        ({"Origin": "http://evil.example"}, 403, "SOL_ALLOWED_HOSTS"),
        ({"Origin": "null"}, 403, "may not use this server"),
        ({"Origin": "http://localhost:1"}, 403, "may not use"),  # another port: another page
        (FOREIGN, 403, "another site"),
        (FOREIGN | {"Sec-Fetch-Site": "same-site"}, 403, "another site"),
    ],
)  # fmt: skip
def test_no_route_is_open_to_others(
    server: FakeServer, method: str, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    asked = Asked(server.url, method, path, JSON | headers, "{}" if method == "POST" else None)
    assert asked.status == status
    assert said in asked.text or method == "HEAD"


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, a health check
        {"Host": "localhost:7860"},  # behind a tunnel: another port than ours
        {"Host": "LOCALHOST."},
        {"Host": "[::1]:7860"},
        {"Host": "192.168.1.7:8080"},  # an address is nobody's name
        OWN,
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        OPENED,
    ],
)
def test_the_page_is_opened(server: FakeServer, headers: dict[str, str]) -> None:
    for method in ("GET", "HEAD"):
        asked = Asked(server.url, method, "/?tab=history", headers)
        assert asked.status == 200
        assert asked.headers["content-security-policy"] == "frame-ancestors 'self'"


# Routes of Gradio that no page of ours uses; each kept, wrote or logged what a stranger sent.
SHUT = [
    ("GET", "/config"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/openapi.json"),
    ("GET", "/gradio_api/deep_link?session_hash=abc"),
    ("GET", "/gradio_api/queue/data?session_hash=abc"),
    ("GET", "/gradio_api/queue/status"),
    ("GET", "/gradio_api/heartbeat/abc"),
    ("GET", "/gradio_api/file=/etc/hostname"),
    ("GET", "/gradio_api/file=http://127.0.0.1/"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
    ("GET", "/gradio_api/component_server"),
    ("GET", "/gradio_api/component_server/x"),
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("GET", "//"),
    ("GET", "/%67radio_api/info"),
    ("POST", "/"),
    ("POST", "/theme.css"),
    ("POST", "/login"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/api/predict"),
    ("POST", "/gradio_api/call/x"),
    ("POST", "/gradio_api/call/v2/x"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/stream/x"),
    ("PUT", "/gradio_api/component_server"),
    ("DELETE", "/"),
]


@pytest.mark.parametrize(("method", "path"), SHUT)
def test_what_the_page_does_not_use_is_shut(server: FakeServer, method: str, path: str) -> None:
    asked = Asked(server.url, method, path, JSON | OWN, "{}" if method != "GET" else None)
    assert (asked.status, asked.text[:15]) == (404, "No page of this")


@pytest.mark.parametrize("name", ["x" * 65, "x" * 2_000_000, "", "a b", 7, None, "\u00e9"])
def test_gradio_keeps_no_name_of_a_session_that_no_page_makes(
    server: FakeServer, name: object
) -> None:
    page = server.visitor("a" * 32).components["explore"]
    body = json.dumps({"session_hash": name, "component_id": page, "fn_name": "x", "data": []})
    for sent in (body, body.replace("session_hash", "\\u0073ession_hash")):
        asked = Asked(server.url, "POST", "/gradio_api/component_server", JSON, sent)
        assert (asked.status, asked.text) == (400, "This is no call of the page. Reload the page.")


@pytest.mark.parametrize("component", [99_999, -1, 10**30, "x", None, 1.5])
def test_a_component_that_is_not_there_is_no_error_of_the_server(
    server: FakeServer, component: object
) -> None:
    body = {"session_hash": "s", "component_id": component, "fn_name": "home", "data": []}
    sent = json.dumps(body)
    assert Asked(server.url, "POST", "/gradio_api/component_server", JSON, sent).status == 400


@pytest.mark.parametrize("sent", ["", "[]", "7", "{", '{"a":' * 100_000, "9" * 5000, "\udcff"])
def test_a_call_is_an_object(server: FakeServer, sent: str) -> None:
    body = sent.encode("utf-8", "surrogateescape")
    assert Asked(server.url, "POST", "/gradio_api/component_server", JSON, body).status == 400


def test_a_link_opens_the_page_only(server: FakeServer) -> None:
    assert Asked(server.url, "GET", "/config", OPENED).status == 403
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert Asked(server.url, "POST", "/", OPENED | form, "a=1").status == 403


def call(
    server: FakeServer, headers: dict[str, str], size: int = 0, chunked: bool = False
) -> Asked:
    page = server.visitor("a" * 32).components["explore"]
    owner = {"owner": "a" * 32, "junk": "x" * size}
    about = {"session_hash": "s", "component_id": page, "fn_name": "list_policies"}
    body = json.dumps(about | {"data": [owner]}).encode()
    pieces = (body[at : at + 65_536] for at in range(0, len(body), 65_536)) if chunked else body
    return Asked(server.url, "POST", "/gradio_api/component_server", headers, pieces)


@pytest.mark.parametrize("more", [{}, OWN, {"Content-Type": "Application/JSON; charset=utf-8"}])
def test_a_call_of_the_page_is_answered(server: FakeServer, more: dict[str, str]) -> None:
    origin = server.url.rstrip("/")
    for headers in (more, more | {"Origin": origin}):
        asked = call(server, JSON | headers)
        assert asked.status == 200
        assert "policies" in json.loads(asked.text)


@pytest.mark.parametrize(
    "kind",
    [{}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data; boundary=x"},
     {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "application/jsonx"}],
)  # fmt: skip
def test_a_call_is_json(server: FakeServer, kind: dict[str, str]) -> None:
    asked = call(server, kind)
    assert asked.status == 415
    assert "Send Content-Type: application/json" in asked.text


@pytest.mark.parametrize("chunked", [False, True])
def test_a_call_has_a_size(server: FakeServer, chunked: bool) -> None:
    most = BODY_BYTES + 12 * server.services.limits.characters
    assert call(server, JSON, most - 1000, chunked).status == 200
    asked = call(server, JSON, most, chunked)
    assert asked.status == 413
    assert "A call may have 13.4 MiB" in asked.text
    assert call(server, JSON).status == 200


def test_a_size_that_is_announced_is_not_waited_for(server: FakeServer) -> None:
    for length in (str(300 * 1024**2), "9" * 18):
        parts = urlsplit(server.url)
        with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20) as line:
            line.sendall(
                b"POST /gradio_api/component_server HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: "
                + length.encode()
                + b"\r\n\r\n"
            )
            assert b" 413 " in line.recv(100)


def test_curl_is_told_before_it_sends(server: FakeServer) -> None:
    head = {"Expect": "100-continue", "Content-Length": str(30 * 1024**2)}
    asked = Asked(server.url, "POST", "/gradio_api/component_server", JSON | head)
    assert asked.status == 413


def test_two_hosts_are_none(server: FakeServer) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert line.recv(100).split()[1] in (b"400", b"421")


def policy(bound: str | None = None, **environment: str) -> GatePolicy:
    return GatePolicy.of_server(bound, 100, environment)


def test_a_space_is_reached_by_its_names_and_framed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "you/sol")
    space = policy("0.0.0.0", **SPACE)
    assert space.may_be_framed
    assert space.serves("you-sol.hf.space")
    assert space.serves("you-sol--abc.hf.space")
    assert space.serves("10.1.2.3:7860")  # of a health check
    assert not space.serves("evil.example")
    assert not space.serves("hf.space.evil.example")
    assert space.trusts("https://you-sol.hf.space", "10.1.2.3:7860")
    assert not space.trusts("https://huggingface.co", "you-sol.hf.space")
    assert not space.trusts("https://evil.hf.space", "you-sol.hf.space")


def test_elsewhere_no_name_of_a_space_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert not policy(**SPACE).serves("you-sol.hf.space")


def test_names_of_the_machine_are_served_where_others_reach_it() -> None:
    machine = socket.gethostname().lower()
    for bound in ("0.0.0.0", "::", "192.168.1.7", "sol.lan"):
        assert policy(bound).serves(f"{machine}:7860")
        assert not policy(bound).serves("evil.example")
    assert policy("sol.lan").serves("sol.lan:7860")
    for bound in (None, "localhost", "127.0.0.1"):
        assert policy(bound).names == {"localhost"}


def test_hosts_that_the_owner_allows() -> None:
    allowed = policy(SOL_ALLOWED_HOSTS=" sol.example.org, Other.example ")
    assert allowed.serves("sol.example.org:443")
    assert allowed.serves("other.example")
    assert not allowed.serves("x.sol.example.org")
    assert allowed.trusts("https://sol.example.org", "127.0.0.1:7860")  # a proxy that rewrites
    assert not allowed.trusts("https://evil.example", "sol.example.org")


@pytest.mark.parametrize("value", ["https://sol.example.org", "a:80", "*", "a b", "-", "[::1]"])
def test_what_is_no_host_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(ConfigError, match="SOL_ALLOWED_HOSTS must be host names"):
        policy(SOL_ALLOWED_HOSTS=f"ok.example,{value}")


class Inner:
    """An application that answers 200 and remembers what it was sent."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.received = [await receive(), await receive()]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            self.received = [scope["type"]]


def ask(guard: HostGuard, kind: str, messages: list[Any], **headers: str) -> list[Any]:
    sent: list[Any] = []
    left = list(messages)

    async def receive() -> Any:
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    path = "/gradio_api/component_server"
    scope = {"type": kind, "method": "POST", "path": path, "headers": pairs}
    # In a thread: a browser test before this one may have left its loop running here.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, guard(scope, receive, send)).result()
    return sent


def test_the_frame_of_hugging_face_is_served_on_a_space_only() -> None:
    for framed in (True, False):
        inner = Inner()
        guard = HostGuard(inner, GatePolicy(may_be_framed=framed), {1})
        body = {"type": "http.request", "body": b'{"session_hash": "s", "component_id": 1}'}
        end = {"type": "http.disconnect"}
        sent = ask(guard, "http", [body, end], host="localhost", content_type="application/json")
        headers = dict(sent[0]["headers"])
        assert (b"content-security-policy" in headers) is not framed
        assert inner.received == [body | {"more_body": False}, end]


def test_a_body_is_counted_whatever_its_head_says() -> None:
    inner = Inner()
    guard = HostGuard(inner, GatePolicy(max_body=10), {1})
    piece = {"type": "http.request", "body": b"123456", "more_body": True}
    last = piece | {"more_body": False}  # read and dropped
    headers = {"host": "localhost", "content_type": "application/json", "content_length": "2"}
    sent = ask(guard, "http", [piece, piece, piece, last], **headers)
    assert sent[0]["status"] == 413
    assert inner.received == []


def test_web_sockets_are_shut_and_a_lifespan_passes() -> None:
    inner = Inner()
    guard = HostGuard(inner, GatePolicy(), {1})
    for headers in ({"host": "evil.example"}, {"host": "localhost:1"}):
        assert ask(guard, "websocket", [], **headers)[0]["type"] == "websocket.close"
    assert inner.received == []
    ask(guard, "lifespan", [])
    assert inner.received == ["lifespan"]
