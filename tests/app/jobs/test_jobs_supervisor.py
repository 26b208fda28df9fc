"""One worker beside the page: started, restarted, found again, ended with the page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.host.instance_lock import write_note
from app.host.paths import DataDir
from app.host.process_identity import own_worker_id
from app.jobs.supervisor import WorkerSupervisor, worker_command
from app.jobs.worker import EXIT_NOT_NEEDED, read_holder
from app.pages.shared.job_calls import refusal
from app.web.services import build_services
from storage import Store
from tests.app.job_stand_in import worked_steps
from tests.app.tiny_project import PROJECT
from tests.app.waiting import StartWorker, wait_until
from tests.support.fake_engine import FakeEngine, fake_load

Supervise = Callable[..., WorkerSupervisor]

SUPERVISE = """
import json, sys, time
from pathlib import Path
from app.jobs.supervisor import WorkerSupervisor
from app.host.paths import DataDir
supervisor = WorkerSupervisor(DataDir(Path(sys.argv[1])), json.loads(sys.argv[2]), look_s=0.05)
supervisor.start()
time.sleep(120)
"""


@pytest.fixture
def supervise(data_dir: DataDir, stand_in_command: Callable[..., list[str]]) -> Iterator[Supervise]:
    """Starts a supervisor in this process; every worker is gone at the end of the test."""
    started: list[WorkerSupervisor] = []

    def start(grace_s: float = 10.0, **options: object) -> WorkerSupervisor:
        command = stand_in_command(is_supervised=True, **options)
        started.append(WorkerSupervisor(data_dir, command, look_s=0.05, grace_s=grace_s))
        started[-1].start()
        return started[-1]

    yield start
    for supervisor in started:
        supervisor.stop()
    holder = read_holder(data_dir.worker_lock_file)
    assert holder is None or not _is_running(int(holder.partition("-")[0]))


def test_a_worker_comes_and_goes_with_the_page(
    supervise: Supervise, store: Store, data_dir: DataDir
) -> None:
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
    assert (data_dir.logs / "worker.log").read_bytes() == b""


def test_a_worker_that_dies_is_replaced(supervise: Supervise, store: Store) -> None:
    supervisor = supervise()
    wait_until(supervisor.worker_pid)
    first = supervisor.worker_pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervisor.worker_pid() not in (None, first))
    job = store.jobs.create("train", "a", "t", {"steps": 1})
    wait_until(lambda: store.jobs.get(job.id).status == "succeeded")


def test_a_worker_that_cannot_start_is_tried_ever_more_rarely(data_dir: DataDir) -> None:
    command = [sys.executable, "-c", "import sys; sys.stderr.write('broken\\n'); sys.exit(7)"]
    supervisor = WorkerSupervisor(data_dir, command, look_s=0.02)
    supervisor.start()
    time.sleep(1.6)
    supervisor.stop()
    assert 1 <= (data_dir.logs / "worker.log").read_text().count("broken") <= 2
    nothing = WorkerSupervisor(data_dir, [str(data_dir.root / "missing")], look_s=0.02)
    nothing.start()
    time.sleep(0.2)
    nothing.stop()


def test_killing_the_page_leaves_the_worker_to_the_next_page(
    supervise: Supervise,
    store: Store,
    data_dir: DataDir,
    stand_in_command: Callable[..., list[str]],
) -> None:
    command = json.dumps(stand_in_command(is_supervised=True))
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(data_dir.root), command], cwd=PROJECT
    ) as page:
        job = store.jobs.create("train", "a", "t", {"steps": 100, "step_s": 0.05})
        wait_until(lambda: store.jobs.metrics(job.id))
        page.kill()
    length = len(worked_steps(data_dir, job.id))
    wait_until(lambda: len(worked_steps(data_dir, job.id)) > length + 3)
    next_page = supervise()
    wait_until(next_page.worker_pid)
    time.sleep(0.5)
    wait_until(lambda: len(worked_steps(data_dir, job.id)) > length + 20)
    assert {pid for pid, _ in worked_steps(data_dir, job.id)} == {next_page.worker_pid()}
    assert store.jobs.get(job.id).status == "running"
    next_page.stop()
    assert store.jobs.get(job.id).status == "queued"


def test_a_power_cut_leaves_what_the_next_start_can_go_on_with(
    supervise: Supervise,
    store: Store,
    data_dir: DataDir,
    stand_in_command: Callable[..., list[str]],
) -> None:
    command = json.dumps(stand_in_command(is_supervised=True))
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(data_dir.root), command], cwd=PROJECT
    ) as page:
        job = store.jobs.create("train", "a", "t", {"steps": 20, "step_s": 0.02})
        wait_until(lambda: len(store.jobs.metrics(job.id)) > 6)
        page.kill()
        os.kill(int(str(store.jobs.get(job.id).worker).partition("-")[0]), signal.SIGKILL)
    shown = store.jobs.metrics(job.id)
    supervise()
    wait_until(lambda: store.jobs.get(job.id).status == "abandoned")
    store.jobs.resume(job.id)
    wait_until(lambda: store.jobs.get(job.id).status == "succeeded")
    assert store.jobs.metrics(job.id)[: len(shown)] == shown
    assert [row["step"] for row in store.jobs.metrics(job.id)] == list(range(20))
    steps = [step for _, step in worked_steps(data_dir, job.id)]
    assert len(steps) <= 25, "from the last checkpoint, not from the start"


def test_a_second_supervised_worker_is_not_needed(
    start_worker: StartWorker, data_dir: DataDir, store: Store
) -> None:
    first = start_worker(is_supervised=True)
    wait_until(lambda: read_holder(data_dir.worker_lock_file))
    second = start_worker(is_supervised=True)
    assert second.wait(10) == EXIT_NOT_NEEDED
    assert first.poll() is None
    first.kill()
    first.wait()
    third = start_worker(is_supervised=True)
    wait_until(lambda: str(read_holder(data_dir.worker_lock_file)).startswith(f"{third.pid}-"))


def test_a_worker_that_does_not_end_is_killed(supervise: Supervise, store: Store) -> None:
    supervisor = supervise(grace_s=0.3)
    job = store.jobs.create("train", "a", "t", {"steps": 2000, "step_s": 0.02, "deaf": True})
    wait_until(lambda: store.jobs.metrics(job.id))
    pid = supervisor.worker_pid()
    assert pid is not None
    told: list[bool] = []
    supervisor.stop(lambda: told.append(True))
    assert told == [True]
    assert not _is_running(pid)


def test_a_second_interrupt_does_not_wait(supervise: Supervise, store: Store) -> None:
    supervisor = supervise(grace_s=60.0)
    job = store.jobs.create("train", "a", "t", {"steps": 2000, "step_s": 0.02, "deaf": True})
    wait_until(lambda: store.jobs.metrics(job.id))
    pid = supervisor.worker_pid()
    assert pid is not None

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervisor.stop(interrupt)
    assert not _is_running(pid)


def test_an_idle_worker_does_not_outlive_a_dead_page(
    start_worker: StartWorker, data_dir: DataDir, store: Store
) -> None:
    write_note(data_dir.lock_file, {"pid": os.getpid()})
    worker = start_worker(is_supervised=True, lonely_s=0.3)
    wait_until(lambda: read_holder(data_dir.worker_lock_file))
    time.sleep(1.2)
    assert worker.poll() is None, "the page lives"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_note(data_dir.lock_file, {"pid": dead.pid})
    assert worker.wait(10) == 0


def test_the_command_of_a_supervised_worker_is_understood(data_dir: DataDir) -> None:
    from app.cli.main import parse

    python, launch, *arguments = worker_command(data_dir, "float32")
    assert python == sys.executable
    assert Path(launch).name == "launch.py"
    args = parse(arguments)
    assert (args.command, args.supervised, args.dtype) == ("worker", True, "float32")
    assert args.data_dir == str(data_dir.root)


def test_interrupting_the_page_leaves_nothing_running(data_dir: DataDir) -> None:
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
        ({"SPACES_ZERO_GPU": "true"}, False),
    ],
)
def test_where_jobs_are_allowed(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], allowed: bool, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lambda task, duration: task))
    for name in ("SPACE_ID", "SOL_LIMITS", "SPACES_ZERO_GPU"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    services = build_services(DataDir(tmp_path), "fake-model", fake_load, FakeEngine())
    services.close()
    assert services.jobs_allowed is allowed
    assert (refusal(services) is None) is allowed


def _serve(data_dir: DataDir) -> subprocess.Popen[str]:
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
    assert process.stderr is not None
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    said = ""
    for line in process.stderr:
        said += line
        if "SOL Explorer is at http" in line:
            watchdog.cancel()
            return process
    pytest.fail(f"the page did not come up: {said}")


def _worker_pid(data_dir: DataDir) -> int:
    wait_until(lambda: read_holder(data_dir.worker_lock_file))
    return int(str(read_holder(data_dir.worker_lock_file)).partition("-")[0])


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_own_id_names_this_process() -> None:
    assert own_worker_id().startswith(f"{os.getpid()}-")
