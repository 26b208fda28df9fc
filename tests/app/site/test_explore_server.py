"""Ports, and what a start touches: the page must be up before torch is imported."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.host.paths import DataDir
from app.site.server import IDLE_S, SESSIONS, PortError, check_port, launch_app
from app.web.services import build_services
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.gradio_leftovers import closing_gradio_leftovers


def test_a_taken_port_is_refused_with_a_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=f"port {port} on 127.0.0.1 cannot be used"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    with pytest.raises(PortError, match="between 0 and 65535"):
        check_port("127.0.0.1", port)


# Gradio leaves the sockets that it probes ports with to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_port_the_next_free_one_is_taken(tmp_path: Path) -> None:
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


def test_port_0_takes_any_free_one(tmp_path: Path) -> None:
    with closing_gradio_leftovers(), ExitStack() as opened:
        services = build_services(DataDir(tmp_path), "m", fake_load, FakeEngine())
        opened.callback(services.close)
        app = launch_app(services, host=None, port=0)
        opened.callback(app.close, verbose=False)
        assert app.server_port > 0
        assert app.state_session_capacity == SESSIONS, "memory of visitors is bounded"
        assert app._queue.sleep_when_free == IDLE_S, "an idle page takes next to nothing"


def test_the_page_is_built_without_torch() -> None:
    code = "import app.site.server, app.site.ui, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
