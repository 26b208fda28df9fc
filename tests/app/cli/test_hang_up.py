"""A closed terminal ends the page as Ctrl-C does; under nohup it goes on."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.host.paths import DataDir
from app.host.process_identity import is_worker_alive
from app.jobs.worker import read_holder
from tests.app.waiting import wait_until
from tests.conftest import ROOT

STARTED = "SOL Explorer is at"


@contextmanager
def page(data_dir: DataDir, prepare: Callable[[], Any], **streams: Any) -> Iterator[Any]:
    """``launch.py`` in a session of its own; its model is missing, which stops no page."""
    command = [sys.executable, str(ROOT / "launch.py"), "serve", "--port", "0", "--no-browser"]
    command += ["--data-dir", str(data_dir.root), "--model", str(data_dir.root / "missing")]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, preexec_fn=prepare, **streams
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def living_worker(data_dir: DataDir) -> str | None:
    worker = read_holder(data_dir.worker_lock_file)
    return worker if worker is not None and is_worker_alive(worker) else None


def test_a_closed_terminal_ends_page_and_worker_in_good_order(data_dir: DataDir) -> None:
    terminal, its_end = pty.openpty()

    def own_the_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    streams = dict.fromkeys(("stdin", "stdout", "stderr"), its_end)
    with page(data_dir, own_the_terminal, **streams) as process:
        os.close(its_end)
        shown = ""
        while STARTED not in shown:
            shown += os.read(terminal, 1000).decode()
        wait_until(lambda: living_worker(data_dir) is not None, 60)
        worker = living_worker(data_dir)
        os.close(terminal)
        assert process.wait(60) == 0
    assert worker is not None
    assert not is_worker_alive(worker)
    assert data_dir.lock_file.read_text() == "", "the lock was given back"
    log = (data_dir.logs / "serve.log").read_text("utf-8")
    assert "Traceback" not in log


def test_under_nohup_a_closed_terminal_changes_nothing(data_dir: DataDir, tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    out = tmp_path / "out.txt"
    with out.open("wb") as stream, page(data_dir, ignore, stdout=stream, stderr=stream) as process:
        wait_until(lambda: STARTED in out.read_text("utf-8"), 60)
        process.send_signal(signal.SIGHUP)
        time.sleep(1.0)
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == 0
