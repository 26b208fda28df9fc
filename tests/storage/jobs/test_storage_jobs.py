"""Jobs: the queue, heartbeats and wishes, endings, metrics and samples."""

import itertools
import math
import re
from datetime import UTC, datetime
from functools import partial
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import JobStatus, NotFoundError, open_store, statements
from storage.errors import InvalidRecordError, JobStateError
from storage.job_turns import give_to
from storage.jobs import ABANDONED_ERROR, KEPT_SAMPLES

PARAMS = {"config": {"seed": 1}, "model": "m", "name": "p"}
RESUMABLE = ("paused", "failed", "cancelled", "abandoned")


@pytest.fixture
def jobs(store):
    return store.jobs


@pytest.fixture
def make(jobs):
    """A job that stands as asked, made by the calls that lead there."""

    def to(status):
        if status in ("queued", "running"):
            worker = "w" if status == "running" else None
            return jobs.create("train", "alice", "p", PARAMS, worker=worker)
        job = jobs.create("train", "alice", "p", PARAMS, worker="w")
        if status == "abandoned":
            jobs.abandon_stale(0, lambda worker: False)
            return jobs.get(job.id)
        return jobs.finish(job.id, "w", status)

    return to


def test_a_new_job_waits_with_what_it_was_given(jobs):
    before = datetime.now(UTC)
    job = jobs.create("train", "al\0ice \ud800", "Tïtle", PARAMS)
    assert re.fullmatch(r"[0-9a-f]{12}", job.id)
    assert (job.kind, job.owner, job.title) == ("train", "al\0ice \ud800", "Tïtle")
    assert (job.status, job.control, job.params) == ("queued", "run", PARAMS)
    assert (job.progress, job.result, job.error, job.worker) == (0.0, None, None, None)
    assert before <= job.created_at == job.updated_at <= datetime.now(UTC)
    assert jobs.get(job.id) == job


def test_bad_jobs_are_refused(jobs):
    with pytest.raises(InvalidRecordError, match="params cannot be saved"):
        jobs.create("train", "a", "t", {"x": math.nan})
    assert jobs.list() == []


def test_claims_take_the_oldest_first_and_each_job_once(jobs):
    own = jobs.create("train", "a", "t", {}, worker="w")
    assert (own.status, own.worker) == ("running", "w")
    assert jobs.heartbeat(own.id, "w", 0.5, "half") == "run"
    made = [jobs.create("train", "a", str(number), {}) for number in range(3)]
    claimed = [jobs.claim(f"w{number}") for number in range(4)]
    assert [job and job.id for job in claimed] == [*(job.id for job in made), None]
    assert [job.worker for job in claimed if job] == ["w0", "w1", "w2"]
    job = jobs.get(made[0].id)
    assert job.status == "running"
    assert job.started_at == job.heartbeat_at == job.updated_at


@pytest.mark.parametrize("status", [name for name in get_args(JobStatus) if name != "queued"])
def test_only_a_queued_job_can_be_given_away(store, jobs, make, status):
    """The UPDATE itself asks, whatever was read before it."""
    job = make(status)
    with store._database.write() as connection:
        assert not give_to(connection, job.id, "thief")
    assert jobs.get(job.id) == job


def test_heartbeats_carry_progress_and_bring_wishes_back(jobs, make):
    job = make("running")
    assert jobs.heartbeat(job.id, "w", 0.25, "grpo", 90.0) == "run"
    after = jobs.get(job.id)
    assert (after.progress, after.message, after.eta_s) == (0.25, "grpo", 90.0)
    assert after.heartbeat_at > job.heartbeat_at
    jobs.request_pause(job.id)
    assert jobs.heartbeat(job.id, "w", 0.3, "grpo") == "pause"
    assert jobs.get(job.id).eta_s is None
    jobs.request_cancel(job.id)
    assert jobs.heartbeat(job.id, "w", 0.3, "grpo") == "cancel"
    jobs.request_pause(job.id)
    assert jobs.get(job.id).control == "cancel", "a pause does not take a cancel back"
    with pytest.raises(JobStateError, match="being cancelled"):
        jobs.resume(job.id)
    paused = make("running")
    jobs.request_pause(paused.id)
    assert jobs.resume(paused.id).control == "run"


def test_progress_stays_within_its_range(jobs, make):
    job = make("running")
    for given_, kept in ((-1.0, 0.0), (7.0, 1.0)):
        jobs.heartbeat(job.id, "w", given_, "x", -5.0)
        assert (jobs.get(job.id).progress, jobs.get(job.id).eta_s) == (kept, 0.0)


@pytest.mark.parametrize("status", get_args(JobStatus))
def test_a_worker_that_lost_its_job_is_told(jobs, make, status):
    job = make(status)
    worker = "another" if status == "running" else "w"
    with pytest.raises(JobStateError, match="not this worker's"):
        jobs.heartbeat(job.id, worker, 0.9, "x")
    with pytest.raises(JobStateError, match="not this worker's"):
        jobs.finish(job.id, worker, "succeeded", {})
    assert jobs.get(job.id) == job


def test_success_and_failure(jobs, make):
    job = make("running")
    jobs.heartbeat(job.id, "w", 0.9, "x", 5.0)
    jobs.set_log_file(job.id, "/data/logs/job.log")
    done = jobs.finish(job.id, "w", "succeeded", {"policy": "p"})
    assert (done.status, done.result) == ("succeeded", {"policy": "p"})
    assert done.log_file == "/data/logs/job.log"
    assert (done.progress, done.eta_s, done.has_ended) == (1.0, None, True)
    assert done.created_at <= done.finished_at <= done.updated_at
    job = make("running")
    jobs.heartbeat(job.id, "w", 0.4, "x")
    failed = jobs.finish(job.id, "w", "failed", error="the disk is full")
    assert (failed.status, failed.error, failed.progress) == ("failed", "the disk is full", 0.4)


@pytest.mark.parametrize("let_go", ["queued", "paused"])
@pytest.mark.parametrize("wish", ["run", "pause", "cancel"])
def test_a_job_that_is_let_go_becomes_what_was_wished(jobs, make, let_go, wish):
    job = make("running")
    if wish != "run":
        {"pause": jobs.request_pause, "cancel": jobs.request_cancel}[wish](job.id)
    after = jobs.finish(job.id, "w", let_go)
    assert after.status == {"run": let_go, "pause": "paused", "cancel": "cancelled"}[wish]
    assert after.control == "run"
    assert (after.finished_at is None) == (wish != "cancel")


@pytest.mark.parametrize(
    ("call", "became"),
    [
        ("request_cancel", dict.fromkeys(("queued", "paused", "abandoned"), "cancelled")),
        ("request_pause", {"queued": "paused"}),
        ("resume", dict.fromkeys(RESUMABLE, "queued")),
    ],
)
def test_what_wishes_do_in_every_state(jobs, make, call, became):
    for status in get_args(JobStatus):
        job = make(status)
        if (call, status) == ("resume", "succeeded"):
            with pytest.raises(JobStateError, match="nothing to resume"):
                jobs.resume(job.id)
            continue
        after = getattr(jobs, call)(job.id)
        assert after == jobs.get(job.id)
        assert after.status == became.get(status, status)
        if status != "running":
            assert after.control == "run"


def test_a_resumed_job_keeps_its_place_start_and_progress(jobs, make):
    job = make("running")
    jobs.heartbeat(job.id, "w", 0.6, "grpo")
    jobs.finish(job.id, "w", "failed", error="out of memory")
    younger = make("queued")
    again = jobs.resume(job.id)
    assert (again.error, again.finished_at, again.progress) == (None, None, 0.6)
    claimed = jobs.claim("w2")
    assert (claimed.id, claimed.worker, claimed.started_at) == (job.id, "w2", job.started_at)
    assert jobs.get(younger.id).status == "queued"


def test_a_worker_may_go_on_with_a_job_itself(jobs, make):
    for status in ("queued", *RESUMABLE):
        job = jobs.resume(make(status).id, worker="me")
        assert (job.status, job.worker, job.error) == ("running", "me", None)
    with pytest.raises(JobStateError, match="running"):
        jobs.resume(make("running").id, worker="me")


@pytest.mark.parametrize("status", get_args(JobStatus))
def test_delete(jobs, make, store, status):
    job, other = make(status), make("running")
    for one in (job, other):
        jobs.append_metrics(one.id, [{"step": 1}])
        jobs.set_sample(one.id, {"step": 1})
    if status == "running":
        with pytest.raises(JobStateError, match="Cancel it"):
            jobs.delete(job.id)
        return
    jobs.delete(job.id)
    for call in (jobs.get, jobs.metrics, jobs.samples, jobs.delete, jobs.resume):
        with pytest.raises(NotFoundError, match=job.id):
            call(job.id)
    assert jobs.get(other.id) == other, "nobody else's row is touched"
    with store._database.read() as connection:
        for table in ("job_metrics", "job_samples"):
            rows = connection.exec_driver_sql(f"SELECT job_id FROM {table}").scalars().all()
            assert rows == [other.id]


def test_missing_jobs_are_named(jobs):
    calls = [
        *(partial(call, "none") for call in (jobs.get, jobs.request_cancel, jobs.request_pause)),
        lambda: jobs.heartbeat("none", "w", 0, ""),
        lambda: jobs.append_metrics("none", []),
        lambda: jobs.set_sample("none", {}),
        lambda: jobs.set_log_file("none", "x"),
        lambda: jobs.finish("none", "w", "failed"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match="no job 'none'"):
            call()


def test_lists_are_newest_first_and_filtered(jobs):
    made = [
        jobs.create("train" if number % 2 else "evaluate", f"o{number % 3}", str(number), {})
        for number in range(7)
    ]
    for job in made[:2]:
        jobs.request_cancel(job.id)
    asked = [
        ({}, "6543210"),
        ({"owner": "o1"}, "41"),
        ({"kind": "evaluate"}, "6420"),
        ({"statuses": ["cancelled"]}, "10"),
        ({"statuses": ("queued", "cancelled"), "kind": "train", "limit": 2}, "53"),
        ({"statuses": []}, ""),
    ]
    for options, titles in asked:
        assert "".join(job.title for job in jobs.list(**options)) == titles
    with pytest.raises(InvalidRecordError):
        jobs.list(limit=0)


def test_metric_rows_come_back_with_a_cursor(jobs, make):
    job, other = make("running"), make("running")
    rows = [{"step": 5 * step, "phase": "grpo", "metrics": {"kl": 0.1}} for step in range(5)]
    assert jobs.append_metrics(job.id, rows[:3]) == 3
    assert jobs.append_metrics(other.id, rows[:1]) == 1
    assert jobs.append_metrics(job.id, rows) == 2, "what is there is not saved twice"
    found = jobs.metrics(job.id)
    assert found == [{**row, "seq": seq} for seq, row in enumerate(rows)]
    assert jobs.metrics(job.id, after=1, limit=2) == found[2:4]
    assert jobs.metrics(other.id) == found[:1]


@pytest.mark.parametrize(
    "row", [{}, {"step": -1}, {"step": True}, {"step": 1.0}, {"step": 2, "x": math.inf}]
)
def test_a_metric_row_needs_a_step(jobs, make, row):
    job = make("running")
    with pytest.raises(InvalidRecordError, match=r"step|finite"):
        jobs.append_metrics(job.id, [{"step": 1}, row])
    assert jobs.metrics(job.id) == [], "all of a batch or nothing"


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=6))
def test_shown_metrics_are_never_lost_or_changed(jobs, make, batches):
    """Whatever steps a worker repeats after its checkpoint."""
    job = make("running")
    shown = []
    for number, steps in enumerate(batches):
        jobs.append_metrics(job.id, [{"step": step, "batch": number} for step in steps])
        now = jobs.metrics(job.id)
        assert now[: len(shown)] == shown
        assert [row["seq"] for row in now] == list(range(len(now)))
        assert all(a["step"] < b["step"] for a, b in itertools.pairwise(now))
        shown = now
    offered = {step for steps in batches for step in steps}
    assert max(offered, default=None) == (shown[-1]["step"] if shown else None)


def test_only_the_last_samples_are_kept(jobs, make):
    job, other = make("running"), make("running")
    jobs.set_sample(other.id, {"step": -1})
    for step in range(KEPT_SAMPLES + 5):
        jobs.set_sample(job.id, {"step": step})
    assert [sample["step"] for sample in jobs.samples(job.id)] == list(range(5, KEPT_SAMPLES + 5))
    assert jobs.samples(other.id) == [{"step": -1}]
    jobs.set_sample(job.id, {"step": 9})  # again, after a resume
    assert [sample["step"] for sample in jobs.samples(job.id)].count(9) == 1
    with pytest.raises(InvalidRecordError):
        jobs.set_sample(job.id, {"x": object()})


@pytest.mark.parametrize(
    ("alive", "seconds", "is_taken"),
    [(True, -1, False), (False, 3600, True), (None, 3600, False), (None, -1, True)],
)
def test_who_counts_as_dead(jobs, make, alive, seconds, is_taken):
    """A living worker keeps its job; age decides only where life cannot be known."""
    job, waiting = make("running"), make("queued")
    asked = []

    def is_alive(worker):
        asked.append(worker)
        return alive

    taken = jobs.abandon_stale(seconds, is_alive)
    assert [one.id for one in taken] == ([job.id] if is_taken else [])
    assert asked == ["w"]
    now = jobs.get(job.id)
    assert now.status == ("abandoned" if is_taken else "running")
    assert now.error == (ABANDONED_ERROR if is_taken else None)
    assert jobs.get(waiting.id).status == "queued"
    assert jobs.abandon_stale(3600, lambda worker: None) == ()


def test_a_dead_job_that_was_unwanted_is_cancelled(jobs, make):
    job = make("running")
    jobs.request_cancel(job.id)
    jobs.abandon_stale(0, lambda worker: False)
    assert (jobs.get(job.id).status, jobs.get(job.id).error) == ("cancelled", None)


def test_a_sign_of_life_in_the_last_moment_counts(jobs, make):
    beating, finishing = make("running"), make("running")

    def is_alive(worker):
        if jobs.get(finishing.id).status == "running":
            jobs.heartbeat(beating.id, "w", 0.5, "x")
            jobs.finish(finishing.id, "w", "succeeded", {})
        return False

    assert jobs.abandon_stale(0, is_alive) == ()
    assert jobs.get(beating.id).status == "running"
    assert jobs.get(finishing.id).status == "succeeded"


@pytest.fixture
def stores(location):
    with (
        open_store(location, data_dir_id="here") as here,
        open_store(location, data_dir_id="there") as there,
    ):
        yield here, there


def test_only_workers_of_its_data_directory_claim_a_job(stores):
    here, there = (store.jobs for store in stores)
    job = there.create("train", "a", "t", {})
    assert job.data_dir_id == "there"
    assert here.claim("w") is None
    claimed = there.claim("w")
    assert claimed.id == job.id


def test_a_job_older_than_ids_is_anybodys(location):
    with open_store(location) as old, open_store(location, data_dir_id="here") as here:
        old.jobs.create("train", "a", "t", {})
        assert here.jobs.claim("w") is not None


def test_what_needs_the_files_is_refused_elsewhere(stores):
    here, there = (store.jobs for store in stores)
    job = there.create("train", "a", "t", {}, worker="w")
    there.finish(job.id, "w", "paused")
    for refused in (lambda: here.delete(job.id), lambda: here.resume(job.id, worker="me")):
        with pytest.raises(JobStateError, match="another data directory, 'there'"):
            refused()
    assert here.get(job.id).status == "paused"
    assert here.resume(job.id).status == "queued", "its own workers go on with it"
    assert here.request_cancel(job.id).status == "cancelled"
    there.delete(job.id)


def test_a_start_ends_only_its_own_runs(stores):
    here, there = (store.runs for store in stores)
    mine, theirs = (runs.create("a", "p", "m", "dense", {}) for runs in (here, there))
    assert here.mark_interrupted() == 1
    assert [here.get(run.id).status for run in (mine, theirs)] == ["interrupted", "running"]
    assert there.mark_interrupted() == 1


def test_owners_take_turns(store):
    jobs = store.jobs
    for owner, count in (("ann", 4), ("ben", 2), ("cay", 1)):
        for number in range(count):
            jobs.create("train", owner, f"{owner} {number}", {})
    order = []
    while (job := jobs.claim("w")) is not None:
        order.append(job.title)
        jobs.finish(job.id, "w", "succeeded", {})
    assert order == ["ann 0", "ben 0", "cay 0", "ann 1", "ben 1", "ann 2", "ann 3"]


def test_addresses_take_turns_and_at_an_address_its_owners_do(store):
    """New names at one address gain nothing, nor does deleting what had its turn."""
    jobs = store.jobs
    for number in range(4):
        jobs.create("evaluate", f"new {number}", f"a{number}", {}, address="1.1.1.1")
    for number in range(2):
        jobs.create("evaluate", "ben", f"b{number}", {}, address="2.2.2.2")
    jobs.create("evaluate", "carol", "c", {})  # on the command line
    order = []
    while (job := jobs.claim("w")) is not None:
        order.append(job.title)
        jobs.finish(job.id, "w", "cancelled")
        jobs.delete(job.id)
    assert order == ["a0", "b0", "c", "a1", "b1", "a2", "a3"]


def test_turns_go_on_when_the_clock_goes_back(store, monkeypatch):
    jobs = store.jobs
    for number in range(3):
        for address in ("1.1.1.1", "2.2.2.2"):
            jobs.create("evaluate", address, f"{address[0]}{number}", {}, address=address)
    hour_us, now_us = 3_600_000_000, statements.now_us
    order = []
    for hours in range(6):
        monkeypatch.setattr(
            statements, "now_us", lambda connection, back=hours: now_us(connection) - back * hour_us
        )
        job = jobs.claim("w")
        order.append(job.title)
        jobs.finish(job.id, "w", "cancelled")
    assert order == ["10", "20", "11", "21", "12", "22"]


def test_sizes_are_those_of_jobs_by_address(store):
    jobs = store.jobs
    ended = jobs.create("train", "ann", "t", {"x": "y" * 1000}, worker="w", address="1.1.1.1")
    jobs.append_metrics(ended.id, [{"step": 1, "text": "z" * 500}])
    jobs.finish(ended.id, "w", "cancelled")
    jobs.create("train", "ben", "t", {})
    (size,) = jobs.sizes(("cancelled",))
    assert (size.id, size.owner) == (ended.id, b"1.1.1.1")
    assert 1500 < size.num_bytes < 1700
    assert [size.owner for size in jobs.sizes(("queued",))] == [b"ben"]


def test_a_resumed_job_takes_its_owners_turn(store):
    jobs = store.jobs
    first = [jobs.create("train", "ann", f"ann {n}", {}, worker="w") for n in range(2)]
    for job in first:
        jobs.finish(job.id, "w", "paused")
    for number in range(2):
        jobs.create("train", "ben", f"ben {number}", {})
    for job in first:
        jobs.resume(job.id)
    claimed = [jobs.claim("w") for _ in range(4)]
    assert [job and job.title for job in claimed] == ["ben 0", "ann 0", "ben 1", "ann 1"]
