"""Ctrl+C while the main thread is inside a compiler, or between two of Python's instructions."""

import signal
import sys
import time

import pytest

from app.cli import main as cli
from app.cli.commands import runs
from app.host.interrupts import Notice, answering
from tests.app.command_line import started
from tests.app.tiny_project import PROJECT

STUCK = """
import hashlib, sys
sys.path.insert(0, sys.argv.pop(1))
from app.cli import main as cli
from app.cli.commands import runs
def stuck(args):
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)  # a minute in C, like a compiler
runs.run = stuck
sys.exit(cli.main(["runs", "list"], owns_process=True))
"""
IGNORED = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path.insert(0, sys.argv.pop(1))
import tests.conftest
shown = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
subprocess.run([sys.executable, "-c", shown], check=True)
"""
ANSWER = "interrupted: nothing is kept; start again with: python launch.py runs list"


@pytest.mark.skipif(sys.platform == "win32", reason="no signal for one process there")
def test_a_call_into_a_compiler_is_ended_with_an_answer():
    with started("-c", STUCK, PROJECT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 15, "two seconds on a machine of one's own"
    assert process.returncode == 130
    assert one_line_of(err) == ANSWER


def test_a_suite_started_where_interrupts_are_ignored_starts_processes_that_hear_them():
    with started("-c", IGNORED, PROJECT) as process:
        out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("True\n", 0), err


def test_a_command_that_python_interrupts_says_the_same(monkeypatch, capsys):
    def interrupted(args):
        signal.raise_signal(signal.SIGINT)
        return 0

    monkeypatch.setattr(runs, "run", interrupted)
    assert cli.main(["runs", "list"]) == 130
    assert one_line_of(capsys.readouterr().err) == ANSWER


def test_a_block_without_interrupts_leaves_no_thread_and_no_word(capsys):
    before = signal.set_wakeup_fd(-1)
    with answering(Notice()):
        assert signal.set_wakeup_fd(-1) != -1
    assert signal.set_wakeup_fd(before) == -1
    assert capsys.readouterr().err == ""


def one_line_of(text):
    (line,) = text.strip().splitlines()
    return line
