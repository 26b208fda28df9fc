"""A disk that is full, or may only be read: what makes no file works on it all the same."""

from __future__ import annotations

import contextlib
import errno
import json
import time
from dataclasses import dataclass

import pytest
import torch

from app.host.database import open_database
from app.host.paths import DataDir
from app.jobs.runner import JobResources, run_job
from sol_core.files.staging import write_safetensors
from sol_core.progress import WorkProgress
from storage import DatabaseWriteError
from tests.app.command_line import RunCommand
from tests.app.restored_runs import restored_run


@dataclass(frozen=True)
class Filled:
    """A data directory on a disk without room, with a run and a job in it."""

    data_dir: DataDir
    run_id: str
    job_id: str
    run: RunCommand

    def ask(self, *words):
        return self.run(*map(str, words), "--data-dir", str(self.data_dir.root))


@pytest.fixture
def filled(small_disk, run):
    data_dir = DataDir(small_disk / "data")
    data_dir.root.mkdir()
    with open_database(data_dir) as store:
        run_id = restored_run(store, "local", [100])
        job = store.jobs.create("train", "a", "t", {}, worker="w")
        store.jobs.finish(job.id, "w", "cancelled")
    folder = data_dir.jobs / job.id
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(bytes(1_000_000))
    with contextlib.suppress(OSError), (data_dir.root / "rest").open("wb", 0) as rest:
        while rest.write(bytes(512)):
            pass
    return Filled(data_dir, run_id, job.id, run)


def test_a_full_disk_is_listed_exported_and_cleared(filled, tmp_path):
    listed = json.loads(filled.ask("runs", "list", "--json").out)
    assert [run["id"] for run in listed["runs"]] == [filled.run_id]
    assert filled.ask("export", filled.run_id, tmp_path / "run.json").status == 0
    assert (tmp_path / "run.json").stat().st_size > 100
    for words in (("jobs", "list"), ("jobs", "show", filled.job_id), ("policies", "list")):
        assert filled.ask(*words).status == 0
    refused = filled.ask("import", tmp_path / "run.json")  # it makes something
    assert (refused.status, "write to the data directory" in refused.err) == (1, True)
    assert filled.ask("jobs", "delete", filled.job_id).status == 0
    assert not (filled.data_dir.jobs / filled.job_id).exists()
    assert json.loads(filled.ask("jobs", "list", "--json").out) == {"jobs": []}


def test_a_full_disk_keeps_no_half_of_an_exported_file(filled, tmp_path):
    small = tmp_path / "disk" / "run.json"
    refused = filled.ask("export", filled.run_id, small)
    assert (refused.status, "No space left on device" in refused.err) == (1, True)
    assert list(small.parent.iterdir()) == [filled.data_dir.root]


def filling(task):
    """Write until nothing more can be written, not even a page of the database."""
    for step in range(1000):
        yield WorkProgress(step / 1000, "grpo", 5.0, {"step": step, "metrics": {"kl": 0.5}})
        try:
            write_safetensors({"weights": torch.zeros(50_000)}, task.folder / f"{step}.safetensors")
        except OSError:
            path = task.folder / "rest.safetensors"
            with contextlib.suppress(OSError), path.open("wb", buffering=0) as rest:
                while rest.write(bytes(512)):
                    pass
            raise


def run_once(store, data_dir, function):
    job = store.jobs.create("train", "a", "t", {}, worker="w")
    outcome = run_job(job, function, JobResources(store.jobs, data_dir, "w"))
    return outcome, store.jobs.get(job.id)


def test_a_job_that_fills_the_disk_has_failed_at_once_and_says_what_to_do(small_disk, monkeypatch):
    monkeypatch.setattr("app.host.paths.MIN_FREE_BYTES", 0)  # nothing starts on such a disk
    data_dir = DataDir(small_disk / "data")
    data_dir.prepare()
    with open_database(data_dir) as store:
        began = time.monotonic()
        outcome, job = run_once(store, data_dir, filling)
        assert time.monotonic() - began < 20
        assert (outcome.status, job.status) == ("failed", "failed")
        assert str(job.error).startswith("The disk is full (")
        assert f"free at least 500 MB in {data_dir.root} and press Resume" in str(job.error)
        steps = [row["step"] for row in store.jobs.metrics(job.id)]
        assert steps == list(range(len(steps)))
        assert len(steps) > 10


def test_room_is_given_back_before_the_last_word(store, data_dir, monkeypatch):
    """As on a full disk: nothing is saved while the job holds its room."""
    finish = store.jobs.finish
    held = []

    def full(task):
        held.extend(task.folder.glob(".reserved"))
        assert held[0].stat().st_size == 1_000_000
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    def save(job_id, worker, status, *rest):
        if held[0].exists():
            raise DatabaseWriteError("the disk is full")
        return finish(job_id, worker, status, *rest)

    monkeypatch.setattr(store.jobs, "finish", save)
    outcome, job = run_once(store, data_dir, full)
    assert isinstance(outcome.reason, OSError)
    assert job.status == "failed"
    assert "press Resume" in str(job.error)
