"""A disk that is full, or may only be read: what makes no file works on it all the same."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.formats.plain_json import json_safe
from app.host.database import open_database
from app.host.paths import DataDir
from sol_core.config import GenerationConfig
from sol_core.events import event_to_dict
from storage import Store
from tests.app.command_line import Finished, RunCommand
from tests.support.fake_engine import make_token


@dataclass(frozen=True)
class Filled:
    """A data directory on a disk without room, with a run and a job in it."""

    data_dir: DataDir
    run_id: str
    job_id: str
    run: RunCommand

    def ask(self, *words: object) -> Finished:
        return self.run(*map(str, words), "--data-dir", str(self.data_dir.root))


def saved_run(store: Store) -> str:
    """The id of a run of one token that has ended."""
    config = json_safe(GenerationConfig().to_dict())
    run = store.runs.create("local", "The sea", "fake-model", "dense", config)
    store.runs.delete(run.id)
    token = json_safe(event_to_dict(make_token(0, " x")))
    return store.runs.restore(dataclasses.replace(run, status="finished"), [token]).id


@pytest.fixture
def filled(small_disk: Path, run: RunCommand) -> Filled:
    data_dir = DataDir(small_disk / "data")
    data_dir.root.mkdir()
    with open_database(data_dir) as store:
        run_id = saved_run(store)
        job = store.jobs.create("train", "a", "t", {}, worker="w")
        store.jobs.finish(job.id, "w", "cancelled")
    folder = data_dir.jobs / job.id
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(bytes(1_000_000))
    with contextlib.suppress(OSError), (data_dir.root / "rest").open("wb", 0) as rest:
        while rest.write(bytes(512)):
            pass
    return Filled(data_dir, run_id, job.id, run)


def test_a_full_disk_is_listed_exported_and_cleared(filled: Filled, tmp_path: Path) -> None:
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


def test_a_read_only_disk_is_listed_and_exported(
    filled: Filled, small_disk: Path, tmp_path: Path
) -> None:
    (filled.data_dir.root / "rest").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=False)
    try:
        (filled.data_dir.root / "x").touch()
    except OSError:
        pass
    else:
        pytest.skip("this disk cannot be made read-only")
    for words in (
        ("runs", "list"),
        ("jobs", "list"),
        ("jobs", "show", filled.job_id),
        ("export", filled.run_id, tmp_path / "run.html"),
    ):
        done = filled.ask(*words)
        assert done.status == 0, done.err
    refused = filled.ask("jobs", "delete", filled.job_id)
    assert (refused.status, "cannot be opened or written" in refused.err) == (1, True)
