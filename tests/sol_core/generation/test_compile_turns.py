"""Two processes that start at once compile once."""

import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from sol_core.generation.warm_up import turn_to_compile

HOLD = """
import sys
from sol_core.generation.warm_up import turn_to_compile
with turn_to_compile("float32"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _has_turn(kind):
    has_turn = threading.Event()

    def work():
        with turn_to_compile(kind):
            has_turn.set()

    threading.Thread(target=work).start()
    return has_turn


@pytest.mark.usefixtures("cache")
def test_the_second_waits_for_the_first_of_its_kind_or_its_death():
    command = [sys.executable, "-c", HOLD]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout.readline() == "mine\n"
        has_turn = _has_turn("float32")
        assert not has_turn.wait(0.7)
        assert _has_turn("bfloat16-4").wait(5), "another kind"
        child.kill()
        assert has_turn.wait(5)


def test_nobody_waits_for_nothing(cache, monkeypatch):
    with turn_to_compile("float32"):
        has_turn = _has_turn("float32")
        assert not has_turn.wait(0.3)
    assert has_turn.wait(5)
    with FileLock(cache / "float32.lock"):
        assert _has_turn("float32").wait(5), "all is compiled"
    with turn_to_compile("float32-8"):
        ends = threading.Thread(target=lambda: None)  # not started: not alive
        monkeypatch.setattr(threading, "main_thread", lambda: ends)
        assert _has_turn("float32-8").wait(5)


def test_a_broken_turn_stops_nobody(cache, monkeypatch):
    with pytest.raises(KeyboardInterrupt), turn_to_compile("float32"):
        raise KeyboardInterrupt
    assert not list(cache.glob("*.compiled")), "what was not compiled to the end"
    (cache / "file").write_text("")
    for folder in ("", str(cache / "file" / "cache")):
        monkeypatch.setenv("NUMBA_CACHE_DIR", folder)
        with turn_to_compile("float32"):
            pass
