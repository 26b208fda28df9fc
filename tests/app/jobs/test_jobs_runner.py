"""One job in this process: what the runner makes of what a job function yields or raises."""

from __future__ import annotations

import logging
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from app.host import process_identity
from app.host.paths import DataDir
from app.host.process_identity import is_worker_alive, own_worker_id, process_exists, process_id_of
from app.jobs import runner
from app.jobs.patience import patiently
from app.jobs.reporter import SAVE_WAIT_S
from app.jobs.runner import JobOutcome, Workplace, delete_job, run_job
from app.jobs.stop_flag import StopFlag, set_by_signals
from app.jobs.updates import JobFunction, JobNote, JobTask, JobUpdate
from sol_core.errors import CorpusError
from sol_core.progress import WorkFinished, WorkProgress, WorkSample, WorkStopped
from storage import DatabaseLockedError, JobRecord, JobStateError, NotFoundError, Store
from tests.app.waiting import wait_until

Run = Callable[..., tuple[JobOutcome, JobRecord]]
Updates = Generator[JobUpdate, None, None]


@pytest.fixture
def run(store: Store, data_dir: DataDir) -> Run:
    """Run a job function to its end; the outcome and the row."""

    def call(function: JobFunction | None, **options: Any) -> tuple[JobOutcome, JobRecord]:
        job = store.jobs.create("train", "a", "t", {"x": 1}, worker="w")
        outcome = run_job(job, function, Workplace(store.jobs, data_dir, "w", **options))
        return outcome, store.jobs.get(job.id)

    return call


def report(step: int, **metrics: float) -> WorkProgress:
    return WorkProgress(step / 10, "grpo", 5.0, {"step": step, "metrics": metrics})


def test_updates_become_rows(run: Run, store: Store) -> None:
    seen: list[JobUpdate] = []

    def function(task: JobTask) -> Updates:
        assert task.job.params == {"x": 1}
        assert task.folder.is_dir()
        assert not task.should_stop()
        task.say("reading")
        yield report(1, kl=0.5)
        yield report(2, kl=math.nan, nll=math.inf)
        yield WorkSample({"step": 2, "tokens": ("a", math.nan)})
        yield WorkFinished({"policy": "p", "kl": math.nan})

    outcome, job = run(function, on_update=seen.append)
    assert (outcome.status, outcome.result) == ("succeeded", {"policy": "p", "kl": None})
    assert (job.status, job.result, job.message) == ("succeeded", outcome.result, "grpo")
    assert [row["metrics"] for row in store.jobs.metrics(job.id)] == [
        {"kl": 0.5},
        {"kl": None, "nll": None},
    ]
    assert store.jobs.samples(job.id) == [{"step": 2, "tokens": ["a", None]}]
    assert seen[0] == JobNote("reading")
    assert [type(update).__name__ for update in seen[1:]] == [
        "WorkProgress",
        "WorkProgress",
        "WorkSample",
        "WorkFinished",
    ]


def test_no_checkpoint_can_be_ahead_of_the_metrics(run: Run, store: Store) -> None:
    """A report is in the database before the engine goes on to write a checkpoint."""
    seen: list[int] = []

    def function(task: JobTask) -> Updates:
        for step in range(20):
            yield report(step)
            seen.append(len(store.jobs.metrics(task.job.id)))
        yield WorkFinished({})

    assert run(function)[1].status == "succeeded"
    assert seen == list(range(1, 21))


def test_a_locked_database_holds_the_work_up_once(
    run: Run, store: Store, data_dir: DataDir
) -> None:
    took_s: list[float] = []

    def function(task: JobTask) -> Updates:
        yield report(0)
        with closing(sqlite3.connect(data_dir.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            for step in range(1, 40):
                yield report(step)
            took_s.append(time.monotonic() - began)
        yield WorkFinished({})

    job = run(function)[1]
    assert took_s[0] < 4 * SAVE_WAIT_S
    assert [row["step"] for row in store.jobs.metrics(job.id)] == list(range(40))


def test_nothing_after_the_end_is_run(run: Run) -> None:
    closed: list[str] = []

    def function(task: JobTask) -> Updates:
        try:
            yield WorkFinished({})
            closed.append("went on")
        finally:
            closed.append("closed")

    assert run(function)[1].status == "succeeded"
    assert closed == ["closed"], "the generator is closed, not left to the garbage collector"


def test_a_report_that_cannot_be_saved_does_not_stop_the_others(run: Run, store: Store) -> None:
    def function(task: JobTask) -> Updates:
        yield WorkProgress(0.1, "grpo", None, {"no step": 1})
        yield WorkProgress(math.nan, "grpo", math.inf, None)
        yield WorkSample({"x": object()})
        yield WorkFinished({})

    job = run(function)[1]
    assert job.status == "succeeded"
    assert store.jobs.metrics(job.id) == store.jobs.samples(job.id) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CorpusError("too small: give more"), "too small: give more"),
        (ValueError("odd"), "The job failed: ValueError: odd. Its log file says more."),
    ],
)
def test_what_is_raised_becomes_a_message_and_a_traceback(
    run: Run, data_dir: DataDir, error: Exception, message: str
) -> None:
    def function(task: JobTask) -> Updates:
        yield report(1)
        raise error

    outcome, job = run(function)
    assert (outcome.status, outcome.error, outcome.reason) == ("failed", message, error)
    assert (job.status, job.error) == ("failed", message)
    log = Path(str(job.log_file)).read_text()
    assert "Traceback" in log
    assert "raise error" in log


def test_an_interrupt_passes_and_leaves_the_job_to_the_reaper(
    store: Store, data_dir: DataDir
) -> None:
    def function(task: JobTask) -> Updates:
        raise KeyboardInterrupt
        yield report(1)

    job = store.jobs.create("train", "a", "t", {}, worker="w")
    with pytest.raises(KeyboardInterrupt):
        run_job(job, function, Workplace(store.jobs, data_dir, "w"))
    assert store.jobs.get(job.id).status == "running"
    assert not [thread for thread in threading.enumerate() if thread.name == "job-reporter"]
    assert not [handler for handler in logging.getLogger().handlers if "job-" in str(handler)]


def test_an_engine_that_just_ends_has_failed(run: Run) -> None:
    def function(task: JobTask) -> Updates:
        yield report(1)

    job = run(function)[1]
    assert (job.status, job.error) == ("failed", "the engine ended without a result")


@pytest.mark.parametrize("released_as", ["queued", "paused"])
@pytest.mark.parametrize("says_so", [True, False])
def test_a_stopped_job_is_let_go(run: Run, released_as: str, says_so: bool) -> None:
    stop = StopFlag()

    def function(task: JobTask) -> Updates:
        yield report(4)
        stop.set()
        assert task.should_stop()
        if says_so:
            yield WorkStopped()

    outcome, job = run(function, stop=stop, released_as=released_as)
    assert outcome.status == job.status == released_as
    assert (job.progress, job.error) == (0.4, None)


def test_a_wish_reaches_the_engine_and_decides(run: Run, store: Store) -> None:
    def function(task: JobTask) -> Updates:
        store.jobs.request_cancel(task.job.id)
        wait_until(task.should_stop, 5)
        yield WorkStopped()

    assert run(function)[1].status == "cancelled"


def test_finishing_wins_over_a_late_wish(run: Run, store: Store) -> None:
    def function(task: JobTask) -> Updates:
        store.jobs.request_pause(task.job.id)
        yield WorkFinished({"policy": "p"})

    outcome, job = run(function)
    assert (outcome.status, job.status, job.result) == ("succeeded", "succeeded", {"policy": "p"})


def test_a_job_taken_away_ends_without_a_word(run: Run, store: Store) -> None:
    told: list[bool] = []

    def function(task: JobTask) -> Updates:
        wait_until(lambda: store.jobs.abandon_stale(0, lambda worker: False))  # between beats
        wait_until(task.should_stop, 5)
        told.append(True)
        yield report(9)
        yield WorkFinished({})

    outcome, job = run(function)
    assert (outcome.status, job.status, job.result) == (None, "abandoned", None)
    assert told == [True]
    assert store.jobs.metrics(job.id) == []


def test_a_folder_in_use_is_left_alone(
    run: Run, store: Store, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FOLDER_WAIT_S", 0.3)
    job = store.jobs.create("train", "a", "t", {}, worker="w")
    (data_dir.jobs / job.id).mkdir()
    started: list[JobTask] = []

    def function(task: JobTask) -> Updates:
        started.append(task)
        yield WorkFinished({})

    place = Workplace(store.jobs, data_dir, "w", StopFlag())
    with FileLock(data_dir.jobs / job.id / ".lock"):
        outcome = run_job(job, function, place)
        assert outcome.status == "failed"
        assert "another process still works in" in str(outcome.error)
        job = store.jobs.resume(job.id, worker="w")
        place.stop.set()
        assert run_job(job, function, place).status == "queued", "told to end while it waits"
    assert started == []


def test_a_folder_is_free_again_after_every_ending(
    store: Store, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FOLDER_WAIT_S", 0.0)

    def fail(task: JobTask) -> Updates:
        raise CorpusError("too small")
        yield report(1)

    def succeed(task: JobTask) -> Updates:
        yield WorkFinished({})

    job = store.jobs.create("train", "a", "t", {}, worker="w")
    place = Workplace(store.jobs, data_dir, "w")
    assert run_job(job, fail, place).error == "too small"
    assert run_job(store.jobs.resume(job.id, "w"), fail, place).error == "too small"
    assert run_job(store.jobs.resume(job.id, "w"), succeed, place).status == "succeeded"
    with FileLock(data_dir.jobs / job.id / ".lock"):
        pass


def test_only_the_jobs_own_file_gets_the_details(run: Run, data_dir: DataDir) -> None:
    def function(task: JobTask) -> Updates:
        logging.getLogger("sol_core.training").info("a detail")
        logging.getLogger("sol_core.training").warning("a warning")
        yield WorkFinished({})

    terminal: list[str] = []

    class Terminal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            terminal.append(record.getMessage())

    handler = Terminal()
    logging.getLogger().addHandler(handler)
    try:
        job = run(function)[1]
        assert terminal == ["a warning"]
        assert handler.level == logging.NOTSET
    finally:
        logging.getLogger().removeHandler(handler)
    log = Path(str(job.log_file)).read_text()
    assert "a detail" in log
    assert "a warning" in log


def test_a_job_runs_without_a_log_where_none_can_be_made(
    run: Run, data_dir: DataDir, caplog: pytest.LogCaptureFixture
) -> None:
    data_dir.logs.rmdir()

    def function(task: JobTask) -> Updates:
        yield WorkFinished({})

    assert run(function)[1].status == "succeeded"
    assert "the job has no log" in caplog.text


def test_deleting_a_job_deletes_its_files_but_nobody_elses(
    run: Run, store: Store, data_dir: DataDir
) -> None:
    def function(task: JobTask) -> Updates:
        (task.folder / "checkpoint").mkdir()
        yield WorkFinished({})

    jobs = [run(function)[1] for _ in range(2)]
    running = store.jobs.create("train", "a", "t", {}, worker="w")
    (data_dir.jobs / running.id).mkdir()
    delete_job(store.jobs, data_dir, jobs[0].id)
    with pytest.raises(NotFoundError):
        delete_job(store.jobs, data_dir, "../policies")
    with pytest.raises(JobStateError):
        delete_job(store.jobs, data_dir, running.id)
    assert {path.name for path in data_dir.jobs.iterdir()} == {jobs[1].id, running.id}
    assert [path.name for path in data_dir.logs.iterdir()] == [f"job-{jobs[1].id}.log"]
    assert data_dir.policies.is_dir()


def test_patience_ends_only_when_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.patience.RETRY_S", 0.0)
    answers: Iterator[Any] = iter([DatabaseLockedError("locked")] * 3 + ["done"])

    def call() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert patiently(call) == "done"
    answers = iter([DatabaseLockedError("locked")] * 3)
    with pytest.raises(DatabaseLockedError):
        patiently(call, lambda: True)
    answers = iter([JobStateError("lost"), "never"])
    with pytest.raises(JobStateError):
        patiently(call)


@pytest.mark.parametrize("by", ["psutil", "/proc"] if sys.platform == "linux" else ["psutil"])
def test_ids_tell_the_living_from_the_dead_and_from_their_successors(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_identity, "_IS_LINUX", by == "/proc")
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
    code = "import time\nfrom app.host import process_identity as i\n"
    code += f"i._IS_LINUX = {by == '/proc'}\nprint(i.own_worker_id(), flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    worker = child.stdout.readline().strip()
    assert is_worker_alive(worker) is True
    assert process_exists(child.pid) is True
    child.kill()
    wait_until(lambda: is_worker_alive(worker) is False)  # not yet collected: a zombie
    child.communicate()
    assert is_worker_alive(worker) is False
    assert process_exists(child.pid) is False


def test_a_flag_set_by_a_signal_ends_a_nap() -> None:
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


def test_a_job_ends_at_the_time_limit_and_can_be_resumed(
    run: Run, store: Store, data_dir: DataDir
) -> None:
    def until_stopped(task: JobTask) -> Updates:
        (task.folder / "checkpoint").touch()
        while not task.should_stop():
            yield report(1)
        yield WorkStopped()

    outcome, job = run(until_stopped, time_limit_s=0.3)
    assert outcome.status == job.status == "failed"
    assert "works for 0.005 minutes at a stretch on this server" in str(job.error)
    assert (data_dir.jobs / job.id / "checkpoint").exists()
    assert store.jobs.resume(job.id).status == "queued"


def test_a_job_that_is_done_is_not_failed_by_the_time_limit(run: Run) -> None:
    def late(task: JobTask) -> Updates:
        time.sleep(0.1)
        yield WorkFinished({})

    assert run(late, time_limit_s=0.01)[0].status == "succeeded"


def test_a_wish_comes_before_the_time_limit(run: Run, store: Store) -> None:
    def pausing(task: JobTask) -> Updates:
        store.jobs.request_pause(task.job.id)
        wait_until(task.should_stop, 5)
        time.sleep(1.5)
        yield WorkStopped()

    assert run(pausing, time_limit_s=2.0)[0].status == "paused"
