"""Connections have an end and a number: half a request holds nobody else up."""

import contextlib
import logging
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.host import memory
from app.host.errors import AppError
from app.host.paths import DataDir
from app.site import answer_turns, connections
from app.site.connections import DEADLINES, ConnectionLimiter, raise_file_limit
from app.site.server import IDLE_S, SESSIONS, check_port, launch_app
from app.web.assets import plotly_path
from app.web.services import build_services
from tests.app.fake_server import serving
from tests.app.waiting import wait_until
from tests.load.attacks import connections_from
from tests.load.processes import address_of, running
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.gradio_leftovers import closing_gradio_leftovers

# Gradio leaves the sockets that it probes ports with to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
HEAD = b"POST /gradio_api/component_server/ HTTP/1.1\r\nHost: localhost\r\n"
BODY = HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
LARGE = b"GET /gradio_api/file=%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (
    plotly_path().as_posix().encode()
)
MOST, SOON_S = 20, 1.0


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "MOST_OF_ADDRESS", MOST)
    for part in ("head", "body"):
        monkeypatch.setitem(DEADLINES, part, SOON_S)
    with serving(tmp_path / "bounded") as running:
        yield running


@pytest.fixture
def connect(server):
    """Connections to the server that have sent something."""
    parts = urlsplit(server.url)
    with ExitStack() as opened:

        def start(sent):
            where = (str(parts.hostname), parts.port or 0)
            line = opened.enter_context(socket.create_connection(where, timeout=20))
            line.sendall(sent)
            return line

        yield start


@contextmanager
def ended():
    """The server ends the connection that the block waits at."""
    began = time.monotonic()
    yield
    assert 0.5 * SOON_S < time.monotonic() - began < 15


def rest(line):
    """What comes until the server ends the connection."""
    try:
        return b"".join(iter(lambda: line.recv(65_536), b""))
    except ConnectionResetError:
        return b""


def has_ended(line):
    try:
        return line.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, BODY])
def test_half_a_request_is_not_waited_for(connect, sent):
    line = connect(sent)
    with ended():
        assert rest(line) == b""


def test_one_byte_at_a_time_gains_nothing(connect):
    line = connect(HEAD)
    line.settimeout(0.1)
    with ended():
        while not has_ended(line):
            line.sendall(b"x")


def test_half_a_request_after_a_whole_one_is_not_waited_for(connect):
    line = connect(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert line.recv(65_536).startswith(b"HTTP/1.1 200")
    line.sendall(HEAD)
    with ended():
        rest(line)


def test_an_address_has_so_many_and_gets_their_places_back(server, connect):
    halves = [connect(HEAD) for _ in range(MOST)]
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url, trust_env=False)
    for line in halves:
        rest(line)
    for _ in range(2 * MOST):  # those that were refused, or have ended, are not counted
        assert httpx.get(server.url, trust_env=False).status_code == 200


@pytest.fixture
def ask_and_leave_unread(server):
    """Ask for a large file on connections that take next to nothing."""
    with ExitStack() as opened:

        def start(count):
            made = connections_from(server.url, ["127.0.0.1"], count)
            lines = opened.enter_context(made)
            for line in lines:
                line.send(LARGE)
            return lines

        yield start


def test_an_answer_that_nobody_reads_makes_room_for_others(
    server, ask_and_leave_unread, monkeypatch
):
    monkeypatch.setattr(connections, "PROGRESS_S", 0.2)
    limiter = server.limiter()
    (unread,) = ask_and_leave_unread(1)
    unread.settimeout(20)
    wait_until(lambda: len(limiter.unread) == 1)
    assert limiter.unfinished == {}
    read = 0
    while chunk := unread.recv(100_000):  # somebody reads on: it is not dropped
        read += len(chunk)
        if read > 3_000_000:
            break
    wait_until(lambda: len(limiter.unread) == 0)
    ask_and_leave_unread(8)
    wait_until(lambda: len(limiter.unread) >= 8)
    monkeypatch.setattr(limiter, "_most", 9)
    assert httpx.get(server.url, trust_env=False).status_code == 200


def test_answers_of_one_address_take_turns_and_what_it_does_not_read_makes_room(
    server, ask_and_leave_unread, monkeypatch
):
    monkeypatch.setattr(connections, "PROGRESS_S", 0.5)
    monkeypatch.setattr(answer_turns, "AT_ONCE", 3)
    monkeypatch.setattr(answer_turns, "MOST_WAITING", 2)
    asking = server.limiter().turns._asking
    unread = ask_and_leave_unread(3)
    wait_until(lambda: asking == {"127.0.0.1": 3})
    assert httpx.get(server.url, trust_env=False, timeout=10).status_code == 200
    monkeypatch.setattr(connections, "PROGRESS_S", 60.0)
    for line in unread:  # those that did not have to make room
        line.close()
    wait_until(lambda: not asking)
    ask_and_leave_unread(5)
    wait_until(lambda: asking == {"127.0.0.1": 5})
    assert httpx.get(server.url, trust_env=False, timeout=10).status_code == 429


def test_what_asyncio_says_of_file_descriptors_is_one_line_a_minute(caplog, monkeypatch):
    connections._once_a_minute.cache_clear()
    logger = logging.getLogger("asyncio")
    said = connections._once_a_minute(connections.TOO_MANY_FILES)
    logger.addFilter(said)
    try:
        for _ in range(3):
            try:
                raise OSError(24, "Too many open files")
            except OSError:
                logger.exception("%s\nsocket: <x>", connections.TOO_MANY_FILES)
        logger.error("something else")
        clock = connections.time.monotonic() + 61
        monkeypatch.setattr(connections.time, "monotonic", lambda: clock)
        logger.error(connections.TOO_MANY_FILES)
    finally:
        logger.removeFilter(said)
    lines = caplog.text.splitlines()
    words = ("out of system resource", "something else", "out of system resource")
    assert [word in line for word, line in zip(words, lines, strict=True)] == [True] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has many addresses of its own")
def test_a_burst_leaves_file_descriptors_and_others_their_answers(tmp_path):
    """A server of 400 file descriptors, to which one address opens 1,000 connections at once."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400));"
        "from tests.app.load_stand_in import main; sys.exit(main(['serve', sys.argv[1]]))"
    )
    data_dir = DataDir(tmp_path)
    data_dir.prepare()
    command = [sys.executable, "-c", code, str(tmp_path)]
    log = data_dir.logs / "server.out"
    with running(command, log) as process, ExitStack() as opened:
        url = address_of(data_dir, process)
        raise_file_limit()
        lines = opened.enter_context(connections_from(url, ["127.0.0.2"], 1000))
        for line in lines:
            with contextlib.suppress(OSError):
                line.send(HEAD)
        for _ in range(10):
            assert httpx.get(url, trust_env=False, timeout=5).status_code == 200
        files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    assert files < 300
    assert "out of system resource" not in log.read_text()


def test_an_upgrade_is_counted_to_its_end(server, connect):
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    for _ in range(2 * MOST):
        line = connect(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n")
        line.recv(100)
        line.close()
    assert httpx.get(server.url, trust_env=False).status_code == 200


def test_beyond_that_the_half_request_that_waits_longest_makes_room():
    class Transport:
        is_open = True

        def abort(self):
            self.is_open = False

    limiter = ConnectionLimiter(most=2, of_address=2)
    halves = [Transport(), Transport()]
    for half, address in zip(halves, "ab", strict=True):
        assert limiter.enter(address)
        limiter.unfinished[half] = None
    assert limiter.enter("c")
    assert [half.is_open for half in halves] == [False, True]
    assert limiter.enter("d")
    assert not limiter.enter("e")  # all that are left are answered


def test_memory_is_given_back_when_a_crowd_has_left(monkeypatch):
    given = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(1))
    limiter = ConnectionLimiter(most=1000, of_address=1000)
    for count, times in ((connections.CROWD, 0), (300, 1)):
        for _ in range(count):
            limiter.enter("a")
        for _ in range(count):
            limiter.leave("a")
        assert len(given) == times


def test_a_proxy_that_is_named_speaks_for_many():
    for listed in ("10.0.0.1, 10.0.0.2", "*"):
        limiter = ConnectionLimiter.of_server({"FORWARDED_ALLOW_IPS": listed})
        assert all(limiter.enter("10.0.0.2") for _ in range(connections.MOST_OF_ADDRESS + 1))
    plain = ConnectionLimiter.of_server({"FORWARDED_ALLOW_IPS": ""})
    assert not all(plain.enter("10.0.0.2") for _ in range(connections.MOST_OF_ADDRESS + 1))


def test_a_taken_port_is_refused_with_a_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AppError, match=f"port {port} on 127.0.0.1 cannot be used"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    with pytest.raises(AppError, match="between 0 and 65535"):
        check_port("127.0.0.1", 70_000)


def test_without_a_port_the_next_free_one_is_taken(tmp_path):
    with closing_gradio_leftovers(), ExitStack() as opened:
        urls, ports = [], []
        for name in ("a", "b"):
            services = build_services(DataDir(tmp_path / name), "m", fake_load, FakeEngine())
            opened.callback(services.close)
            app = launch_app(services, host=None, port=None)
            opened.callback(app.close, verbose=False)
            urls.append(app.local_url)
            ports.append(app.server_port)
        assert len(set(ports)) == 2
        assert min(ports) >= 7860
        assert all(url.startswith("http://127.0.0.1:") for url in urls)
        assert app.state_session_capacity == SESSIONS, "memory of visitors is bounded"
        assert app._queue.sleep_when_free == IDLE_S, "an idle page takes next to nothing"


def test_the_page_is_built_without_torch():
    code = "import app.site.server, app.site.ui, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
