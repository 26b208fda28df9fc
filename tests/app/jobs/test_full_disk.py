"""A job on a disk that fills up: it ends at once, its row says so, and it can go on."""

from __future__ import annotations

import contextlib
import errno
import resource
import time
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from app.host.database import open_database
from app.host.paths import DataDir
from app.jobs.runner import JobOutcome, Workplace, run_job
from app.jobs.updates import JobFunction, JobTask, JobUpdate
from sol_core.files.staging import write_safetensors
from sol_core.progress import WorkFinished, WorkProgress
from storage import DatabaseWriteError, JobRecord, JobStatus, Store

Updates = Generator[JobUpdate, None, None]


def filling(task: JobTask) -> Updates:
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


def finishing(task: JobTask) -> Updates:
    yield WorkFinished({"policy": "p"})


def run(
    store: Store, data_dir: DataDir, function: JobFunction, job: JobRecord | None = None
) -> tuple[JobOutcome, JobRecord]:
    job = job or store.jobs.create("train", "a", "t", {}, worker="w")
    outcome = run_job(job, function, Workplace(store.jobs, data_dir, "w"))
    return outcome, store.jobs.get(job.id)


def test_a_job_that_fills_the_disk_has_failed_at_once_and_says_what_to_do(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.host.paths.MIN_FREE_BYTES", 0)  # nothing starts on such a disk
    data_dir = DataDir(small_disk / "data")
    data_dir.prepare()
    with open_database(data_dir) as store:
        began = time.monotonic()
        outcome, job = run(store, data_dir, filling)
        assert time.monotonic() - began < 20
        assert (outcome.status, job.status) == ("failed", "failed")
        assert job.error is not None
        assert job.error.startswith("The disk is full (")
        assert f"free at least 500 MB in {data_dir.root} and press Resume" in job.error
        steps = [row["step"] for row in store.jobs.metrics(job.id)]
        assert steps == list(range(len(steps)))
        assert len(steps) > 10
        for file in (data_dir.jobs / job.id).glob("*.safetensors"):
            file.unlink()
        store.jobs.resume(job.id)
        again = store.jobs.claim("w")
        assert again is not None
        assert run(store, data_dir, finishing, again)[1].status == "succeeded"


def test_room_is_given_back_before_the_last_word(
    store: Store, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: nothing is saved while the job holds its room."""
    finish = store.jobs.finish
    held: list[Path] = []

    def full(task: JobTask) -> Updates:
        held.extend(task.folder.glob(".reserved"))
        assert held[0].stat().st_size == 1_000_000
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    def save(job_id: str, worker: str, status: JobStatus, *rest: object) -> JobRecord:
        if held[0].exists():
            raise DatabaseWriteError("the disk is full")
        return finish(job_id, worker, status, *rest)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(store.jobs, "finish", save)
    outcome, job = run(store, data_dir, full)
    assert isinstance(outcome.reason, OSError)
    assert job.status == "failed"
    assert "press Resume" in str(job.error)


def test_another_error_of_the_disk_is_told_as_it_is(store: Store, data_dir: DataDir) -> None:
    def broken(task: JobTask) -> Updates:
        raise OSError(errno.EIO, "Input/output error")
        yield

    error = run(store, data_dir, broken)[1].error
    assert error is not None
    assert error.startswith("The job failed: OSError: [Errno 5] Input/output error")


def test_what_safetensors_cannot_write_is_an_os_error(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk's end, which needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_safetensors({"weights": torch.zeros(50_000)}, tmp_path / "x.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "x.safetensors")
