"""One job in this process: what the runner makes of what a job function yields or raises."""

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from app.host import processes
from app.host.interrupts import StopFlag, set_by_signals
from app.host.processes import is_worker_alive, own_worker_id, process_exists, process_id_of
from app.jobs import runner
from app.jobs.runner import JobOutcome, JobResources, run_job
from sol_core.errors import CorpusError
from sol_core.progress import WorkFinished, WorkProgress, WorkSample, WorkStopped
from storage import JobRecord
from tests.app.waiting import wait_until

Run = Callable[..., tuple[JobOutcome, JobRecord]]


@pytest.fixture
def run(store, data_dir):
    """Run a job function to its end; the outcome and the row."""

    def call(function, **options):
        job = store.jobs.create("train", "a", "t", {"x": 1}, worker="w")
        outcome = run_job(job, function, JobResources(store.jobs, data_dir, "w", **options))
        return outcome, store.jobs.get(job.id)

    return call


def report(step, **metrics):
    return WorkProgress(step / 10, "grpo", 5.0, {"step": step, "metrics": metrics})


def test_updates_become_rows(run, store):
    seen = []

    def function(task):
        assert task.job.params == {"x": 1}
        assert task.folder.is_dir()
        assert not task.should_stop()
        task.say("reading")
        yield report(1, kl=0.5)
        yield report(2, kl=math.nan, nll=math.inf)
        yield WorkSample({"step": 2, "tokens": ("a", math.nan)})
        # What cannot be saved does not stop the others.
        yield WorkProgress(0.1, "grpo", None, {"no step": 1})
        yield WorkProgress(math.nan, "grpo", math.inf, None)
        yield WorkSample({"x": object()})
        yield WorkFinished({"policy": "p", "kl": math.nan})

    outcome, job = run(function, on_update=seen.append)
    assert (outcome.status, outcome.result) == ("succeeded", {"policy": "p", "kl": None})
    assert (job.status, job.result, job.message) == ("succeeded", outcome.result, "grpo")
    metrics = [row["metrics"] for row in store.jobs.metrics(job.id)]
    assert metrics == [{"kl": 0.5}, {"kl": None, "nll": None}]
    assert store.jobs.samples(job.id) == [{"step": 2, "tokens": ["a", None]}]
    assert seen[0] == "reading"
    assert len(seen) == 8


def test_no_checkpoint_can_be_ahead_of_the_metrics(run, store):
    """A report is in the database before the engine goes on to write a checkpoint."""
    seen = []

    def function(task):
        for step in range(20):
            yield report(step)
            seen.append(len(store.jobs.metrics(task.job.id)))
        yield WorkFinished({})

    assert run(function)[1].status == "succeeded"
    assert seen == list(range(1, 21))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CorpusError("too small: give more"), "too small: give more"),
        (OSError(5, "x"), "The job failed: OSError: [Errno 5] x. Its log file says more."),
    ],
)
def test_what_is_raised_becomes_a_message_and_a_traceback(run, data_dir, error, message):
    def function(task):
        yield report(1)
        raise error

    outcome, job = run(function)
    assert (outcome.status, outcome.error, outcome.reason) == ("failed", message, error)
    assert (job.status, job.error) == ("failed", message)
    log = Path(str(job.log_file)).read_text()
    assert "Traceback" in log
    assert "raise error" in log


def test_an_interrupt_passes_and_leaves_the_job_to_the_reaper(store, data_dir):
    def function(task):
        raise KeyboardInterrupt
        yield report(1)

    job = store.jobs.create("train", "a", "t", {}, worker="w")
    with pytest.raises(KeyboardInterrupt):
        run_job(job, function, JobResources(store.jobs, data_dir, "w"))
    assert store.jobs.get(job.id).status == "running"
    assert not [thread for thread in threading.enumerate() if thread.name == "job-reporter"]
    assert not [handler for handler in logging.getLogger().handlers if "job-" in str(handler)]


@pytest.mark.parametrize("released_as", ["queued", "paused"])
@pytest.mark.parametrize("says_so", [True, False])
def test_a_stopped_job_is_let_go(run, released_as, says_so):
    stop = StopFlag()

    def function(task):
        yield report(4)
        stop.set()
        assert task.should_stop()
        if says_so:
            yield WorkStopped()

    outcome, job = run(function, stop=stop, released_as=released_as)
    assert outcome.status == job.status == released_as
    assert (job.progress, job.error) == (0.4, None)


def test_finishing_wins_over_a_late_wish_and_the_time_limit(run, store):
    def function(task):
        store.jobs.request_pause(task.job.id)
        time.sleep(0.1)
        yield WorkFinished({"policy": "p"})

    outcome, job = run(function, time_limit_s=0.01)
    assert (outcome.status, job.status, job.result) == ("succeeded", "succeeded", {"policy": "p"})


def test_a_folder_in_use_is_left_alone(run, store, data_dir, monkeypatch):
    monkeypatch.setattr(runner, "FOLDER_WAIT_S", 0.3)
    job = store.jobs.create("train", "a", "t", {}, worker="w")
    (data_dir.jobs / job.id).mkdir()
    started = []

    def function(task):
        started.append(task)
        yield WorkFinished({})

    place = JobResources(store.jobs, data_dir, "w", StopFlag())
    with FileLock(data_dir.jobs / job.id / ".lock"):
        outcome = run_job(job, function, place)
        assert outcome.status == "failed"
        assert "another process still works in" in str(outcome.error)
        job = store.jobs.resume(job.id, worker="w")
        place.stop.set()
        assert run_job(job, function, place).status == "queued", "told to end while it waits"
    assert started == []


def test_a_job_runs_without_a_log_and_ends_in_words_without_a_result(run, data_dir, caplog):
    def function(task):
        yield report(1)

    assert "cannot run a job of kind 'train'" in str(run(None)[1].error)
    for log in data_dir.logs.iterdir():
        log.unlink()
    data_dir.logs.rmdir()
    job = run(function)[1]
    assert (job.status, job.error) == ("failed", "the engine ended without a result")
    assert "the job has no log" in caplog.text


@pytest.mark.parametrize("by", ["psutil", "/proc"] if sys.platform == "linux" else ["psutil"])
def test_ids_tell_the_living_from_the_dead_and_from_their_successors(by, monkeypatch):
    monkeypatch.setattr(processes, "_IS_LINUX", by == "/proc")
    own = own_worker_id()
    pid, start, place = own.split("-")
    assert is_worker_alive(own) is True
    assert own_worker_id() == own
    assert process_id_of(own) == os.getpid()
    # Another process that got the same number later.
    assert is_worker_alive(f"{pid}-{int(start) - 1}-{place}") is False
    for unknown in (f"{pid}-{start}-000000000000", "w", "", f"{own}-more"):
        assert is_worker_alive(unknown) is None
        assert process_id_of(unknown) is None
    code = "import time\nfrom app.host import processes as i\n"
    code += f"i._IS_LINUX = {by == '/proc'}\nprint(i.own_worker_id(), flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = child.stdout.readline().strip()
    assert is_worker_alive(worker) is True
    assert process_exists(child.pid) is True
    child.kill()
    wait_until(lambda: is_worker_alive(worker) is False)  # not yet collected: a zombie
    child.communicate()
    assert is_worker_alive(worker) is False
    assert process_exists(child.pid) is False


def test_a_flag_set_by_a_signal_ends_a_nap():
    before = signal.getsignal(signal.SIGTERM)
    stop = StopFlag()
    with set_by_signals(stop):
        assert not stop.wait(0.01)
        assert signal.getsignal(signal.SIGHUP) == signal.getsignal(signal.SIGINT)
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        assert stop.wait(10)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with set_by_signals(StopFlag()):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, ignored)


def test_a_job_ends_at_the_time_limit_and_can_be_resumed(run, store, data_dir):
    def until_stopped(task):
        (task.folder / "checkpoint").touch()
        while not task.should_stop():
            yield report(1)
        yield WorkStopped()

    outcome, job = run(until_stopped, time_limit_s=0.3)
    assert outcome.status == job.status == "failed"
    assert "works for 0.005 minutes at a stretch on this server" in str(job.error)
    assert (data_dir.jobs / job.id / "checkpoint").exists()
    assert store.jobs.resume(job.id).status == "queued"


def test_a_wish_comes_before_the_time_limit(run, store):
    def pausing(task):
        store.jobs.request_pause(task.job.id)
        wait_until(task.should_stop, 5)
        time.sleep(1.5)
        yield WorkStopped()

    assert run(pausing, time_limit_s=2.0)[0].status == "paused"
