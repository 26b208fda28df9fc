"""Several data directories on one database: who claims, ends and deletes what; owners' turns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import JobStateError, Store, open_store


@pytest.fixture
def stores(location: Path | str) -> Iterator[tuple[Store, Store]]:
    with (
        open_store(location, data_dir_id="here") as here,
        open_store(location, data_dir_id="there") as there,
    ):
        yield here, there


def test_only_workers_of_its_data_directory_claim_a_job(stores: tuple[Store, Store]) -> None:
    here, there = (store.jobs for store in stores)
    job = there.create("train", "a", "t", {})
    assert job.data_dir_id == "there"
    assert here.claim("w") is None
    claimed = there.claim("w")
    assert claimed is not None
    assert claimed.id == job.id


def test_a_job_older_than_ids_is_anybodys(location: Path | str) -> None:
    with open_store(location) as old, open_store(location, data_dir_id="here") as here:
        old.jobs.create("train", "a", "t", {})
        assert here.jobs.claim("w") is not None


def test_what_needs_the_files_is_refused_elsewhere(stores: tuple[Store, Store]) -> None:
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


def test_a_start_ends_only_its_own_runs(stores: tuple[Store, Store]) -> None:
    here, there = (store.runs for store in stores)
    mine, theirs = (runs.create("a", "p", "m", "dense", {}) for runs in (here, there))
    assert here.mark_interrupted() == 1
    assert [here.get(run.id).status for run in (mine, theirs)] == ["interrupted", "running"]
    assert there.mark_interrupted() == 1


def test_owners_take_turns(store: Store) -> None:
    jobs = store.jobs
    for owner, count in (("ann", 4), ("ben", 2), ("cay", 1)):
        for number in range(count):
            jobs.create("train", owner, f"{owner} {number}", {})
    order = []
    while (job := jobs.claim("w")) is not None:
        order.append(job.title)
        jobs.finish(job.id, "w", "succeeded", {})
    assert order == ["ann 0", "ben 0", "cay 0", "ann 1", "ben 1", "ann 2", "ann 3"]


def test_a_resumed_job_takes_its_owners_turn(store: Store) -> None:
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
