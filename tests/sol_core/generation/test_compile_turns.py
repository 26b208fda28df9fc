"""Two processes that start at once compile once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sol_core.generation.warm_up import turn_to_compile

HOLD = """
import os, sys
os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
from sol_core.generation.warm_up import turn_to_compile
with turn_to_compile("float32"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _hold(cache: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "mine\n"
    return child


def _wait(kind: str) -> tuple[threading.Thread, threading.Event]:
    has_turn = threading.Event()

    def work() -> None:
        with turn_to_compile(kind):
            has_turn.set()

    thread = threading.Thread(target=work)
    thread.start()
    return thread, has_turn


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_the_second_waits_for_the_first_of_its_kind(cache: Path, end: str) -> None:
    with _hold(cache) as child:
        thread, has_turn = _wait("float32")
        assert not has_turn.wait(0.7)
        other, has_other = _wait("bfloat16-4")  # another kind
        assert has_other.wait(5)
        other.join()
        if end == "killed":
            child.kill()
        else:
            child.communicate("")
        assert has_turn.wait(5)
        thread.join()


def test_nobody_waits_once_all_is_compiled(cache: Path) -> None:
    with turn_to_compile("float32"):
        pass
    with _hold(cache) as child:
        thread, has_turn = _wait("float32")
        assert has_turn.wait(5)
        thread.join()
        child.communicate("")


def test_what_was_not_compiled_to_the_end_is_compiled_again(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt), turn_to_compile("float32"):
        raise KeyboardInterrupt
    assert not list(cache.glob("*.compiled"))


def test_a_folder_that_cannot_be_written_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("", str(tmp_path / "file" / "cache")):
        monkeypatch.setenv("NUMBA_CACHE_DIR", folder)
        with turn_to_compile("float32"):
            pass


def test_a_program_that_ends_does_not_wait(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _hold(cache) as child:
        ends = threading.Thread(target=lambda: None)  # not started: not alive
        monkeypatch.setattr(threading, "main_thread", lambda: ends)
        with turn_to_compile("float32"):
            pass
        monkeypatch.undo()
        child.communicate("")
