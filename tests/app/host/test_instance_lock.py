"""One launch per data directory; a killed one leaves no stale lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.host.errors import AlreadyRunningError, DataDirError
from app.host.instance_lock import hold_instance_lock, publish_url, read_note
from tests.app.tiny_project import PROJECT

HOLD = """
import sys, pathlib
from app.host.instance_lock import hold_instance_lock
with hold_instance_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_where_the_first_runs(tmp_path: Path) -> None:
    path = tmp_path / "serve.lock"
    with hold_instance_lock(path):
        with pytest.raises(AlreadyRunningError, match=r"still starting .*--data-dir"):
            hold_instance_lock(path).__enter__()
        publish_url(path, "http://127.0.0.1:7861")
        with pytest.raises(AlreadyRunningError, match=r"at http://127\.0\.0\.1:7861 \(process \d"):
            hold_instance_lock(path).__enter__()
    with hold_instance_lock(path):
        pass


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "serve.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunningError, match=f"process {holder.pid}"):
            hold_instance_lock(path).__enter__()
        holder.kill()
        holder.wait()
    with hold_instance_lock(path):
        pass


def test_unreadable_content_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "serve.lock"
    with hold_instance_lock(path):
        path.with_suffix(".json").write_text("[half", encoding="utf-8")
        with pytest.raises(AlreadyRunningError, match="another launch"):
            hold_instance_lock(path).__enter__()


def test_a_place_that_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="cannot lock"):
        hold_instance_lock(tmp_path).__enter__()  # a folder


def test_a_look_at_the_lock_leaves_the_holders_note(tmp_path: Path) -> None:
    """As filelock 3 does it."""
    path = tmp_path / "serve.lock"
    with hold_instance_lock(path):
        publish_url(path, "http://127.0.0.1:7861")
        os.close(os.open(path, os.O_RDWR | os.O_TRUNC))
        with pytest.raises(AlreadyRunningError, match=r"at http://127\.0\.0\.1:7861"):
            hold_instance_lock(path).__enter__()
    assert read_note(path) == {}
    assert {entry.name for entry in tmp_path.iterdir()} <= {"serve.lock"}
