"""Workers as processes: jobs done once, death, signals, wishes, a locked database."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from app.host.paths import DataDir
from app.host.process_identity import is_worker_alive
from app.jobs.reaper import Reaper
from storage import JobRecord, Store
from tests.app.job_stand_in import worked_steps
from tests.app.waiting import StartWorker, wait_until

on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def queue(store: Store, **params: Any) -> JobRecord:
    return store.jobs.create("train", "alice", "count", params)


def wait_for(store: Store, job_id: str, status: str) -> JobRecord:
    wait_until(lambda: store.jobs.get(job_id).status == status)
    return store.jobs.get(job_id)


def wait_for_step(store: Store, job_id: str, step: int) -> None:
    wait_until(lambda: any(row["step"] >= step for row in store.jobs.metrics(job_id)))


def steps_shown(store: Store, job_id: str) -> list[int]:
    return [row["step"] for row in store.jobs.metrics(job_id)]


@on_both
def test_a_job_is_done_and_leaves_everything_in_its_row(
    store: Store, data_dir: DataDir, start_worker: StartWorker
) -> None:
    job = queue(store, steps=12)
    worker = start_worker()
    done = wait_for(store, job.id, "succeeded")
    assert done.result == {"policy": "counted", "pid": worker.pid}
    assert (done.progress, done.error, done.owner) == (1.0, None, "alice")
    assert steps_shown(store, job.id) == list(range(12))
    assert store.jobs.samples(job.id)[-1] == {"step": 11}
    assert done.log_file == str(data_dir.logs / f"job-{job.id}.log")
    log = (data_dir.logs / f"job-{job.id}.log").read_text()
    assert f"job {job.id} (train) begins" in log
    assert f"job {job.id} ends: succeeded" in log
    assert is_worker_alive(str(done.worker)) is True


@on_both
def test_kill_9_abandons_and_resume_goes_on_from_the_checkpoint(
    store: Store, data_dir: DataDir, start_worker: StartWorker
) -> None:
    reaper = Reaper(store.jobs, interval_s=0.1)
    reaper.start()
    try:
        job = queue(store, steps=24, step_s=0.05, checkpoint_every=5)
        first = start_worker()
        wait_for_step(store, job.id, 7)
        first.kill()
        shown = store.jobs.metrics(job.id)
        dead = wait_for(store, job.id, "abandoned")
        assert "Resume continues from the last checkpoint" in str(dead.error)
        assert is_worker_alive(str(dead.worker)) is False
    finally:
        reaper.stop()
    first.wait()
    store.jobs.resume(job.id)
    second = start_worker()
    wait_for(store, job.id, "succeeded")
    assert store.jobs.metrics(job.id)[: len(shown)] == shown, "what was shown is still there"
    worked = worked_steps(data_dir, job.id)
    again = [step for pid, step in worked if pid == second.pid]
    lost = [step for pid, step in worked if pid == first.pid and step >= again[0]]
    assert again == list(range(again[0], 24))
    assert again[0] >= 5
    assert again[0] % 5 == 0, "from a checkpoint"
    assert len(lost) <= 5, "at most the work since the checkpoint"


@on_both
def test_a_signal_checkpoints_and_the_next_worker_goes_on(
    store: Store, data_dir: DataDir, start_worker: StartWorker
) -> None:
    job = queue(store, steps=30, step_s=0.03, checkpoint_every=1000)
    first = start_worker()
    wait_for_step(store, job.id, 4)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=10)
    assert (first.returncode, output) == (0, "")
    waiting = store.jobs.get(job.id)
    assert (waiting.status, waiting.error, waiting.finished_at) == ("queued", None, None)
    assert 0 < waiting.progress < 1
    start_worker()
    wait_for(store, job.id, "succeeded")
    assert [step for _, step in worked_steps(data_dir, job.id)] == list(range(30)), "none twice"
    assert steps_shown(store, job.id) == list(range(30))


def test_an_idle_worker_ends_at_once(start_worker: StartWorker, store: Store) -> None:
    worker = start_worker(poll_s=60)
    time.sleep(1.0)
    worker.terminate()
    worker.communicate(timeout=5)
    assert worker.returncode in (0, -signal.SIGTERM)  # the latter before it had begun


@on_both
@pytest.mark.parametrize(("wish", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_wishes_are_obeyed_at_the_next_step_and_the_worker_lives_on(
    store: Store, data_dir: DataDir, start_worker: StartWorker, wish: str, status: str
) -> None:
    job, other = queue(store, steps=1000, step_s=0.02), queue(store, steps=1)
    worker = start_worker()
    wait_for_step(store, job.id, 2)
    {"cancel": store.jobs.request_cancel, "pause": store.jobs.request_pause}[wish](job.id)
    stopped = wait_for(store, job.id, status)
    assert steps_shown(store, job.id) == [step for _, step in worked_steps(data_dir, job.id)]
    assert stopped.progress < 0.5
    assert wait_for(store, other.id, "succeeded").result == {
        "policy": "counted",
        "pid": worker.pid,
    }


@on_both
def test_two_workers_never_run_one_job(
    store: Store, data_dir: DataDir, start_worker: StartWorker
) -> None:
    made = [queue(store, steps=3, step_s=0.01) for _ in range(24)]
    workers = [start_worker() for _ in range(3)]
    for job in made:
        wait_for(store, job.id, "succeeded")
    share = Counter[int]()
    for job in made:
        worked = worked_steps(data_dir, job.id)
        assert [step for _, step in worked] == [0, 1, 2]
        share.update({pid for pid, _ in worked})
    assert sum(share.values()) == len(made), "each job in one process"
    assert set(share) <= {worker.pid for worker in workers}


def test_a_locked_database_is_outwaited(
    store: Store, data_dir: DataDir, start_worker: StartWorker
) -> None:
    """Locked for longer than the worker's timeout: while it works, ends a job, and idles."""
    job = queue(store, steps=20, step_s=0.05)
    worker = start_worker(busy_timeout_s=0.1)
    wait_for_step(store, job.id, 2)
    with closing(sqlite3.connect(data_dir.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_until(lambda: len(worked_steps(data_dir, job.id)) == 20)
        time.sleep(0.5)
        assert store.jobs.get(job.id).status == "running"
        assert worker.poll() is None
        other.execute("ROLLBACK")
    wait_for(store, job.id, "succeeded")
    assert steps_shown(store, job.id) == list(range(20)), "reports waited for the database"
    with closing(sqlite3.connect(data_dir.database, isolation_level=None)) as other:
        late = queue(store, steps=1)
        other.execute("BEGIN IMMEDIATE")
        time.sleep(0.5)
        other.execute("ROLLBACK")
    wait_for(store, late.id, "succeeded")


def test_a_worker_starts_while_the_database_is_locked(
    store: Store, data_dir: DataDir, start_worker: StartWorker
) -> None:
    job = queue(store, steps=1)
    with closing(sqlite3.connect(data_dir.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        worker = start_worker(busy_timeout_s=0.05)
        time.sleep(1.5)
        assert worker.poll() is None
        other.execute("ROLLBACK")
    wait_for(store, job.id, "succeeded")


def test_errors_are_kept_and_the_worker_lives_on(
    store: Store, data_dir: DataDir, start_worker: StartWorker
) -> None:
    told, crashed, unknown, fine = (
        queue(store, fail_at=2),
        queue(store, crash_at=2),
        store.jobs.create("benchmark", "alice", "no engine for it", {}),
        queue(store, steps=1),
    )
    worker = start_worker()
    wait_for(store, fine.id, "succeeded")
    first, second, third = (store.jobs.get(job.id) for job in (told, crashed, unknown))
    assert {job.status for job in (first, second, third)} == {"failed"}
    assert first.error == "the corpus is too small: give a longer text"
    assert "ZeroDivisionError: a mistake in the engine" in str(second.error)
    assert "cannot run a job of kind 'benchmark'" in str(third.error)
    for job in (first, second):
        log = (data_dir.logs / f"job-{job.id}.log").read_text()
        assert "Traceback" in log
        assert "_fail(step, params)" in log
        assert steps_shown(store, job.id) == [0, 1]
    worker.terminate()
    assert worker.communicate(timeout=10)[0] == "", "nothing goes to the terminal"


def test_a_long_step_does_not_look_dead(store: Store, start_worker: StartWorker) -> None:
    job = queue(store, steps=1, step_s=3.0)
    start_worker()
    running = wait_for(store, job.id, "running")

    def has_beaten() -> bool:
        now = store.jobs.get(job.id)
        assert (now.status, now.heartbeat_at is not None) == ("running", True)
        return bool(now.heartbeat_at > running.heartbeat_at)  # type: ignore[operator]  # above

    for _ in range(2):
        wait_until(has_beaten, 2.5)
        running = store.jobs.get(job.id)


@on_both
def test_a_worker_taken_for_dead_lets_go(
    store: Store, data_dir: DataDir, start_worker: StartWorker
) -> None:
    """Its job is resumed elsewhere: it stops at once, and the other waits for the folder."""
    job = queue(store, steps=60, step_s=0.05)
    first = start_worker()
    wait_for_step(store, job.id, 2)
    wait_until(lambda: store.jobs.abandon_stale(0, lambda worker: False))  # between two beats
    store.jobs.resume(job.id, worker="nobody")  # so that the first one cannot have it back
    length = len(worked_steps(data_dir, job.id))
    wait_until(lambda: "not this worker's" in log_of(data_dir, job.id))
    store.jobs.finish(job.id, "nobody", "paused")
    assert len(worked_steps(data_dir, job.id)) <= length + 40
    assert store.jobs.get(job.id).status == "paused"
    assert first.poll() is None
    store.jobs.resume(job.id)
    wait_for(store, job.id, "succeeded")
    assert [step for _, step in worked_steps(data_dir, job.id)] == list(range(60))


def test_a_deaf_engine_still_shows_the_wish(store: Store, start_worker: StartWorker) -> None:
    job = queue(store, steps=1000, step_s=0.02, deaf=True)
    worker = start_worker()
    wait_for_step(store, job.id, 1)
    store.jobs.request_cancel(job.id)
    worker.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1.0)
    worker.kill()
    worker.wait()
    store.jobs.abandon_stale(0, is_worker_alive)
    assert store.jobs.get(job.id).status == "cancelled"


def log_of(data_dir: DataDir, job_id: str) -> str:
    path = data_dir.logs / f"job-{job_id}.log"
    return path.read_text() if path.exists() else ""
