"""The gate before every route: hosts, origins, content types, sizes; and who must still get in."""

import asyncio
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from app.site import call_bodies
from app.site.answer_turns import AnswerTurns
from app.site.call_bodies import LARGE_BYTES, LARGE_OF_ADDRESS, CallBodies, is_call
from app.site.host_guard import BODY_BYTES, GatePolicy, HostGuard
from sol_core.errors import ConfigError
from tests.app.fake_server import serving
from tests.app.waiting import wait_until

# Gradio leaves the sockets that it probes ports with to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
JSON = {"Content-Type": "application/json"}
SPACE = {"SPACE_ID": "you/sol", "SPACE_HOST": "you-sol.hf.space"}
OPENED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1",
          "Sec-Fetch-Dest": "document"}  # fmt: skip
HEAD = (b"POST /gradio_api/component_server HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\n")  # fmt: skip
OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("guarded")) as running:
        yield running


class Asked:
    """One request with exactly these headers; the answer's status, headers and text."""

    def __init__(self, url, method, path, headers, body=None):
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
    ("GET", "/"), ("HEAD", "/"), ("GET", "/config"),
    ("GET", "/gradio_api/queue/data?session_hash=abc"), ("GET", "/gradio_api/file=/etc/hostname"),
    ("POST", "/gradio_api/component_server"), ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/upload"), ("POST", "/gradio_api/sol-upload"), ("GET", "/no/such/route"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Host": "evil.example"}, 421, "set to it"),
        ({"Host": "[::1]evil.example"}, 421, "does not answer"),
        ({"Origin": "http://evil.example"}, 403, "SOL_ALLOWED_HOSTS"),
        ({"Origin": "http://localhost:1"}, 403, "may not use"),  # another port: another page
        (FOREIGN, 403, "another site"),
        (FOREIGN | {"Sec-Fetch-Site": "same-site"}, 403, "another site"),
    ],
)  # fmt: skip
def test_no_route_is_open_to_others(server, method, path, headers, status, said):
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
def test_the_page_is_opened(server, headers):
    for method in ("GET", "HEAD"):
        asked = Asked(server.url, method, "/?tab=history", headers)
        assert asked.status == 200
        assert asked.headers["content-security-policy"] == "frame-ancestors 'self'"


# Routes of Gradio that no page of ours uses; each kept, wrote or logged what a stranger sent.
SHUT = [
    ("GET", "/gradio_api/info"), ("GET", "/gradio_api/queue/data?session_hash=abc"),
    ("GET", "/gradio_api/file=/etc/hostname"), ("GET", "/gradio_api/file=http://127.0.0.1/"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1/"), ("GET", "//"), ("GET", "/%67radio_api/info"),
    ("POST", "/"), ("POST", "/login"), ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/run/predict"), ("POST", "/gradio_api/upload"),
    ("PUT", "/gradio_api/component_server"), ("GET", f"/static/js/{'a' * 256}"),
    ("GET", f"/assets/{'a/' * 2100}a"), ("GET", f"/static/fonts/{'%F0%9F%98%80' * 64}"),
    ("GET", "/static/img/.."), ("GET", "/assets/%00"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), SHUT)
def test_what_the_page_does_not_use_is_shut(server, method, path):
    asked = Asked(server.url, method, path, JSON | OWN, "{}" if method != "GET" else None)
    assert (asked.status, asked.text[:15]) == (404, "No page of this")


@pytest.mark.parametrize("name", ["x" * 65, "", "a b", 7, "\u00e9"])
def test_gradio_keeps_no_name_of_a_session_that_no_page_makes(server, name):
    page = server.visitor("a" * 32).components["explore"]
    body = json.dumps({"session_hash": name, "component_id": page, "fn_name": "x", "data": []})
    for sent in (body, body.replace("session_hash", "\\u0073ession_hash")):
        asked = Asked(server.url, "POST", "/gradio_api/component_server", JSON, sent)
        assert (asked.status, asked.text) == (400, "This is no call of the page. Reload the page.")
    for component in (99_999, 10**30, "x", None):
        body = json.dumps({"session_hash": "s", "component_id": component, "fn_name": "home"})
        assert Asked(server.url, "POST", "/gradio_api/component_server", JSON, body).status == 400


@pytest.mark.parametrize("sent", ["", "[]", '{"a":' * 100_000, "9" * 5000, "\udcff"])
def test_a_call_is_an_object(server, sent):
    body = sent.encode("utf-8", "surrogateescape")
    assert Asked(server.url, "POST", "/gradio_api/component_server", JSON, body).status == 400


def test_a_link_opens_the_page_only(server):
    assert Asked(server.url, "GET", "/config", OPENED).status == 403
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert Asked(server.url, "POST", "/", OPENED | form, "a=1").status == 403


def call(server, headers, size=0, chunked=False):
    page = server.visitor("a" * 32).components["explore"]
    owner = {"owner": "a" * 32, "junk": "x" * size}
    about = {"session_hash": "s", "component_id": page, "fn_name": "list_policies"}
    body = json.dumps(about | {"data": [owner]}).encode()
    pieces = (body[at : at + 65_536] for at in range(0, len(body), 65_536)) if chunked else body
    return Asked(server.url, "POST", "/gradio_api/component_server", headers, pieces)


@pytest.mark.parametrize("more", [{}, OWN, {"Content-Type": "Application/JSON; charset=utf-8"}])
def test_a_call_of_the_page_is_answered(server, more):
    origin = server.url.rstrip("/")
    for headers in (more, more | {"Origin": origin}):
        asked = call(server, JSON | headers)
        assert asked.status == 200
        assert "policies" in json.loads(asked.text)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/jsonx"},
    ],
)
def test_a_call_is_json(server, kind):
    asked = call(server, kind)
    assert asked.status == 415
    assert "Send Content-Type: application/json" in asked.text


def test_a_file_is_bytes(server):
    place = f"/gradio_api/sol-upload?kind=corpus&owner={'a' * 32}&name=a.txt"
    for kind in ({}, JSON, {"Content-Type": "multipart/form-data; boundary=x"}):
        asked = Asked(server.url, "POST", place, kind, "words")
        assert (asked.status, asked.text[:15]) == (415, "Send Content-Ty")
    sent = Asked(server.url, "POST", place, {"Content-Type": "application/octet-stream"}, "words")
    assert (sent.status, json.loads(sent.text)) == (200, {"name": "a.txt"})
    assert Asked(server.url, "GET", place, {}).status == 404


@pytest.mark.parametrize("chunked", [False, True])
def test_a_call_has_a_size(server, chunked):
    most = BODY_BYTES + 12 * server.services.limits.characters
    assert call(server, JSON, most - 1000, chunked).status == 200
    asked = call(server, JSON, most, chunked)
    assert asked.status == 413
    assert "A call may have 13.4 MiB" in asked.text
    assert call(server, JSON).status == 200


@pytest.mark.parametrize("piece", [b"[[[]]],", b"{},", b"0,", b'"",'])
def test_costly_json_is_refused_before_it_is_parsed(server, piece, monkeypatch):
    def parse(text):
        raise AssertionError("it was parsed")

    body = b'{"session_hash": "s", "data": [' + piece * (2_000_000 // len(piece)) + b"0]}"
    monkeypatch.setattr(call_bodies, "json", SimpleNamespace(loads=parse))
    asked = Asked(server.url, "POST", "/gradio_api/component_server", JSON, body)
    assert (asked.status, asked.text) == (400, "This is no call of the page. Reload the page.")


def test_of_an_address_few_large_calls_are_at_work(server):
    """Two that have come to nothing yet keep a third out; small ones pass, and others do."""
    call_head = HEAD + f"Content-Length: {2 * LARGE_BYTES}\r\n\r\n".encode()
    with ExitStack() as opened:
        parts = urlsplit(server.url)
        for _ in range(LARGE_OF_ADDRESS):
            where = (str(parts.hostname), parts.port or 0)
            line = opened.enter_context(socket.create_connection(where, timeout=20))
            line.sendall(call_head + b" " * (LARGE_BYTES + 100_000))
        wait_until(lambda: call(server, JSON, 2 * LARGE_BYTES).status == 429)
        assert "already has 2 large calls" in call(server, JSON, 2 * LARGE_BYTES, True).text
        assert call(server, JSON).status == 200
    wait_until(lambda: call(server, JSON, 2 * LARGE_BYTES).status == 200)


def test_the_largest_call_of_a_page_is_no_costly_one():
    call = {"session_hash": "s", "component_id": 1, "data": [{"painted": [[0.5, 0.5, 8]] * 4096}]}
    assert is_call(json.dumps(call).encode(), {1})


def raw(server, head):
    """The first bytes of the answer to a request that is no more than its head."""
    parts = urlsplit(server.url)
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20) as line:
        line.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        return line.recv(100)


def test_a_size_that_is_announced_is_not_waited_for_and_two_hosts_are_none(server):
    call = "POST /gradio_api/component_server HTTP/1.1\nContent-Type: application/json\n"
    for length in (300 * 1024**2, "9" * 18):
        assert b" 413 " in raw(server, f"{call}Host: localhost\nContent-Length: {length}")
    both = raw(server, "GET / HTTP/1.1\nHost: localhost\nHost: evil.example")
    assert both.split()[1] in (b"400", b"421")


def policy(bound=None, **environment):
    return GatePolicy.of_server(bound, 100, environment)


def test_a_space_is_reached_by_its_names_and_framed(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "you/sol")
    space = policy("0.0.0.0", **SPACE)
    assert space.may_be_framed
    assert space.serves("you-sol.hf.space")
    assert space.serves("you-sol--abc.hf.space")
    assert space.serves("10.1.2.3:7860")  # of a health check
    assert not space.serves("evil.example")
    assert space.trusts("https://you-sol.hf.space", "10.1.2.3:7860")
    assert not space.trusts("https://huggingface.co", "you-sol.hf.space")
    assert not space.trusts("https://evil.hf.space", "you-sol.hf.space")
    monkeypatch.delenv("SPACE_ID")
    assert not policy(**SPACE).serves("you-sol.hf.space")


def test_names_of_the_machine_are_served_where_others_reach_it():
    machine = socket.gethostname().lower()
    for bound in ("0.0.0.0", "::", "192.168.1.7", "sol.lan"):
        assert policy(bound).serves(f"{machine}:7860")
        assert not policy(bound).serves("evil.example")
    assert policy("sol.lan").serves("sol.lan:7860")
    for bound in (None, "localhost", "127.0.0.1"):
        assert policy(bound).names == {"localhost"}


def test_hosts_that_the_owner_allows():
    allowed = policy(SOL_ALLOWED_HOSTS=" sol.example.org, Other.example ")
    assert allowed.serves("sol.example.org:443")
    assert allowed.serves("other.example")
    assert not allowed.serves("x.sol.example.org")
    assert allowed.trusts("https://sol.example.org", "127.0.0.1:7860")  # a proxy that rewrites
    assert not allowed.trusts("https://evil.example", "sol.example.org")


@pytest.mark.parametrize("value", ["https://sol.example.org", "*", "a b"])
def test_what_is_no_host_is_refused_at_the_start(value):
    with pytest.raises(ConfigError, match="SOL_ALLOWED_HOSTS must be host names"):
        policy(SOL_ALLOWED_HOSTS=f"ok.example,{value}")


def sent_by(policy, kind, **headers):
    """What goes out for a request of the page, before an application that says yes to all."""
    sent = []

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "headers": []})
        await send({"type": "http.response.body", "body": b"yes"})

    async def send(message):
        sent.append(message)

    pairs = [(name.encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": kind, "method": "GET", "path": "/", "headers": pairs}
    # In a thread: a browser test before this one may have left its loop running here.
    with ThreadPoolExecutor(1) as thread:
        guarded = HostGuard(inner, policy, CallBodies(99, {1}), AnswerTurns())(scope, send, send)
        thread.submit(asyncio.run, guarded).result()
    return sent


def test_web_sockets_are_shut_and_a_lifespan_and_a_spaces_frame_pass():
    for host in ("evil.example", "localhost:1"):
        assert sent_by(GatePolicy(), "websocket", host=host)[0]["type"] == "websocket.close"
    assert sent_by(GatePolicy(), "lifespan")
    framed = sent_by(GatePolicy(may_be_framed=True), "http", host="localhost")
    assert framed[0] == {"type": "http.response.start", "headers": []}


def test_an_answer_has_its_turn_until_the_system_has_all_of_it():
    """uvicorn takes the last part without waiting, and waits before it takes another one."""
    _, *parts = sent_by(GatePolicy(), "http", host="localhost")
    assert [(part["body"], part.get("more_body", False)) for part in parts] == [
        (b"yes", True),
        (b"", False),
    ]


TOO_LARGE = "must be at most 9,007,199,254,740,991"


HALF = "\ud800"  # of a character


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(scope="module")
def page(server):
    return server.visitor("a" * 32)


LOOK = {"run_id": "x", "index": 0}


@pytest.mark.parametrize(
    ("tab", "name", "request_", "said"),
    [
        ("explore", "look_at_token", LOOK | {"index": 10**30}, TOO_LARGE),
        ("explore", "poll_run", {"run_id": "x", "cursor": 2**63}, TOO_LARGE),
        ("history", "list_runs", {"query": "", "limit": 10**400}, TOO_LARGE),
        ("history", "list_runs", {"query": "", "limit": 5, "before": HALF}, "no run"),
        ("explore", "poll_run", {"run_id": HALF, "cursor": 0}, "does not exist"),
        ("explore", "start_run", {"prompt": "x", "settings": {HALF: 1}}, "unknown field"),
        ("lab", "list_jobs", {"kind": ["train"], "limit": 10}, "kind must be one of"),
        ("learn", "ask_experiment", {"experiment": "x", "parameters": {"a": nested(40)}},
         "at most 32 deep"),
    ],
)  # fmt: skip
def test_it_is_refused_in_words(page, tab, name, request_, said):
    assert said in page.call(tab, name, **request_)["refused"]


def test_32_deep_is_not_too_deep(page):
    answer = page.call("learn", "ask_experiment", experiment="x", parameters={"a": nested(29)})
    assert "deep" not in answer.get("refused", "")
    for stop, said in (
        ("\n".join(map(str, range(33))), "At most 32 stop strings, got 33"),
        ("x" * 401, "400"),
    ):
        answer = page.call("explore", "start_run", prompt="x", settings={"stop": stop})
        assert said in answer["refused"]


def test_a_name_of_four_byte_letters_is_cut_to_what_a_file_may_have(page):
    made = page.send("corpus", "\U00020000" * 80 + ".txt", b"words")
    assert made["name"] == "\U00020000" * 34 + ".txt"
    assert made["name"] in [one["name"] for one in page.call("lab", "list_corpora")["files"]]
