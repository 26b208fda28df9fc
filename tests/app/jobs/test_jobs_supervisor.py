"""One worker beside the page: started, restarted, found again, ended with the page."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.host.paths import DataDir
from app.host.processes import write_note
from app.jobs.supervisor import WorkerSupervisor
from app.jobs.worker import read_holder
from app.pages.shared.job_calls import refusal
from app.web.services import build_services
from tests.app.tiny_project import PROJECT
from tests.app.waiting import wait_until
from tests.support.fake_engine import FakeEngine, fake_load


@pytest.fixture
def supervise(data_dir, stand_in_command):
    """Starts a supervisor in this process; every worker is gone at the end of the test."""
    started = []

    def start(grace_s=10.0, **options):
        command = stand_in_command(is_supervised=True, **options)
        started.append(WorkerSupervisor(data_dir, command, look_s=0.05, grace_s=grace_s))
        started[-1].start()
        return started[-1]

    yield start
    for supervisor in started:
        supervisor.stop()
    holder = read_holder(data_dir.worker_lock_file)
    assert holder is None or not _is_running(int(holder.partition("-")[0]))


def test_a_worker_comes_and_goes_with_the_page(supervise, store, data_dir):
    supervisor = supervise()
    job = store.jobs.create("train", "a", "t", {"steps": 2000, "step_s": 0.02})
    wait_until(lambda: store.jobs.metrics(job.id))
    pid = supervisor.worker_pid()
    assert pid is not None
    assert os.getsid(pid) == os.getpgid(pid) == pid, "in a session of its own"
    supervisor.stop()
    assert not _is_running(pid)
    assert supervisor.worker_pid() is None
    waiting = store.jobs.get(job.id)
    assert waiting.status == "queued", "checkpointed, for the next start"
    assert (data_dir.jobs / job.id / "checkpoint.json").exists()


def test_a_worker_that_dies_is_replaced(supervise, store):
    supervisor = supervise()
    wait_until(supervisor.worker_pid)
    first = supervisor.worker_pid()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervisor.worker_pid() not in (None, first))
    job = store.jobs.create("train", "a", "t", {"steps": 1})
    wait_until(lambda: store.jobs.get(job.id).status == "succeeded")


def test_a_worker_that_cannot_start_is_tried_ever_more_rarely(data_dir):
    command = [sys.executable, "-c", "import sys; sys.stderr.write('broken\\n'); sys.exit(7)"]
    supervisor = WorkerSupervisor(data_dir, command, look_s=0.02)
    supervisor.start()
    time.sleep(1.6)
    supervisor.stop()
    assert 1 <= (data_dir.logs / "worker.log").read_text().count("broken") <= 2


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_worker_that_does_not_end_is_killed(supervise, store, interrupted):
    """After a grace, or at once when Ctrl-C is pressed again."""
    supervisor = supervise(grace_s=60.0 if interrupted else 0.3)
    job = store.jobs.create("train", "a", "t", {"steps": 2000, "step_s": 0.02, "deaf": True})
    wait_until(lambda: store.jobs.metrics(job.id))
    pid = supervisor.worker_pid()
    assert pid is not None

    def told():
        if interrupted:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext():
        supervisor.stop(told)
    assert not _is_running(pid)


def test_an_idle_worker_does_not_outlive_a_dead_page(start_worker, data_dir, store):
    write_note(data_dir.lock_file, {"pid": os.getpid()})
    worker = start_worker(is_supervised=True, lonely_s=0.3)
    wait_until(lambda: read_holder(data_dir.worker_lock_file))
    time.sleep(1.2)
    assert worker.poll() is None, "the page lives"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_note(data_dir.lock_file, {"pid": dead.pid})
    assert worker.wait(10) == 0


def test_interrupting_the_page_leaves_nothing_running(data_dir):
    """The real ``launch.py``: page killed, page started again, page interrupted."""
    first = _serve(data_dir)
    worker = _worker_pid(data_dir)
    first.kill()
    first.communicate()
    assert _is_running(worker)
    second = _serve(data_dir)
    try:
        assert _worker_pid(data_dir) == worker, "no second worker"
        second.send_signal(signal.SIGINT)
        _, err = second.communicate(timeout=40)
    finally:
        second.kill()
        if _is_running(worker):
            os.kill(worker, signal.SIGKILL)
            pytest.fail("the worker was left running")
    assert second.returncode in (0, 130)
    assert "Traceback" not in err
    assert (data_dir.logs / "worker.log").read_text().count("Traceback") == 0


@pytest.mark.parametrize(
    ("variables", "allowed"),
    [
        ({}, True),
        ({"SPACE_ID": "a/b"}, False),
        ({"SPACE_ID": "a/b", "SOL_LIMITS": "jobs=1"}, True),
        ({"SPACE_ID": "a/b", "SOL_LIMITS": "jobs=1", "SPACES_ZERO_GPU": "true"}, False),
    ],
)
def test_where_jobs_are_allowed(monkeypatch, variables, allowed, tmp_path):
    spaces = SimpleNamespace(GPU=lambda task, duration: task)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    services = build_services(DataDir(tmp_path), "fake-model", fake_load, FakeEngine())
    services.close()
    assert services.jobs_allowed is allowed
    assert (refusal(services) is None) is allowed


def _serve(data_dir):
    """The page, up and with its worker; no model is loaded."""
    process = subprocess.Popen(
        [
            *(sys.executable, str(PROJECT / "launch.py"), "--no-browser", "--port", "0"),
            *("--data-dir", str(data_dir.root), "--model", str(data_dir.root / "no-model")),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    said = ""
    for line in process.stderr:
        said += line
        if "SOL Explorer is at http" in line:
            watchdog.cancel()
            return process
    pytest.fail(f"the page did not come up: {said}")


def _worker_pid(data_dir):
    wait_until(lambda: read_holder(data_dir.worker_lock_file))
    return int(str(read_holder(data_dir.worker_lock_file)).partition("-")[0])


def _is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
