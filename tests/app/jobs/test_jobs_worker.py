"""Workers as processes: jobs done once, death, signals, wishes, a locked database."""

import sqlite3
import time
from contextlib import closing

import pytest

from app.host.processes import is_worker_alive
from app.jobs.worker import reaping
from tests.app.job_stand_in import worked_steps
from tests.app.waiting import wait_until

on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def queue(store, **params):
    return store.jobs.create("train", "alice", "count", params)


def wait_for(store, job_id, status):
    wait_until(lambda: store.jobs.get(job_id).status == status)
    return store.jobs.get(job_id)


def wait_for_step(store, job_id, step):
    wait_until(lambda: any(row["step"] >= step for row in store.jobs.metrics(job_id)))


def steps_shown(store, job_id):
    return [row["step"] for row in store.jobs.metrics(job_id)]


@on_both
def test_kill_9_abandons_and_resume_goes_on_from_the_checkpoint(store, data_dir, start_worker):
    with reaping(store.jobs, interval_s=0.1):
        job = queue(store, steps=24, step_s=0.05, checkpoint_every=5)
        first = start_worker()
        wait_for_step(store, job.id, 7)
        first.kill()
        shown = store.jobs.metrics(job.id)
        dead = wait_for(store, job.id, "abandoned")
        assert "Resume continues from the last checkpoint" in str(dead.error)
        assert is_worker_alive(str(dead.worker)) is False
    first.wait()
    store.jobs.resume(job.id)
    second = start_worker()
    done = wait_for(store, job.id, "succeeded")
    assert done.result == {"policy": "counted", "pid": second.pid}
    assert (done.progress, done.error, done.owner) == (1.0, None, "alice")
    assert store.jobs.samples(job.id)[-1] == {"step": 23}
    assert f"job {job.id} ends: succeeded" in log_of(data_dir, job.id)
    assert store.jobs.metrics(job.id)[: len(shown)] == shown, "what was shown is still there"
    worked = worked_steps(data_dir, job.id)
    again = [step for pid, step in worked if pid == second.pid]
    lost = [step for pid, step in worked if pid == first.pid and step >= again[0]]
    assert again == list(range(again[0], 24))
    assert again[0] >= 5
    assert again[0] % 5 == 0, "from a checkpoint"
    assert len(lost) <= 5, "at most the work since the checkpoint"


@pytest.mark.parametrize(("wish", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_wishes_are_obeyed_at_the_next_step_and_the_worker_lives_on(
    store, data_dir, start_worker, wish, status
):
    job, other = queue(store, steps=1000, step_s=0.02), queue(store, steps=1)
    worker = start_worker()
    wait_for_step(store, job.id, 2)
    {"cancel": store.jobs.request_cancel, "pause": store.jobs.request_pause}[wish](job.id)
    stopped = wait_for(store, job.id, status)
    assert steps_shown(store, job.id) == [step for _, step in worked_steps(data_dir, job.id)]
    assert stopped.progress < 0.5
    assert wait_for(store, other.id, "succeeded").result == {"policy": "counted", "pid": worker.pid}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_workers_never_run_one_job(store, data_dir, start_worker):
    made = [queue(store, steps=3, step_s=0.01) for _ in range(12)]
    workers = {start_worker().pid for _ in range(2)}
    for job in made:
        wait_for(store, job.id, "succeeded")
        worked = worked_steps(data_dir, job.id)
        assert [step for _, step in worked] == [0, 1, 2]
        assert len({pid for pid, _ in worked} & workers) == 1


def test_a_locked_database_is_outwaited(store, data_dir, start_worker):
    """For longer than the worker's timeout."""
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


def test_a_long_step_does_not_look_dead(store, start_worker):
    job = queue(store, steps=1, step_s=3.0)
    start_worker()
    beats = {wait_for(store, job.id, "running").heartbeat_at}

    def has_beaten():
        beats.add(store.jobs.get(job.id).heartbeat_at)
        return len(beats) > 2

    wait_until(has_beaten)
    assert steps_shown(store, job.id) == [], "it still works"


def test_a_worker_taken_for_dead_lets_go(store, data_dir, start_worker):
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


def log_of(data_dir, job_id):
    path = data_dir.logs / f"job-{job_id}.log"
    return path.read_text() if path.exists() else ""
