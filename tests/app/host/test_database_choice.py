"""SOL_DATABASE_URL: every command honours it, and says what is wrong with it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.host.database import DATABASE_VARIABLE, database_location, open_database
from app.host.paths import DataDir
from app.jobs.reaper import REAP_S, STALE_S, Reaper
from storage import DatabaseWriteError, Store
from tests.app.command_line import RunCommand, one_line
from tests.app.job_stand_in import worked_steps
from tests.app.waiting import StartWorker, wait_until
from tests.support.postgres_server import PASSWORD, QUOTED_PASSWORD, PostgresServer

on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
COMMANDS = [
    ("jobs", "list"),
    ("worker",),
    ("serve", "--port", "0", "--no-browser"),
    ("train", "--minutes", "1"),
    ("export", "x", "out.json"),
]


def test_without_it_the_database_is_in_the_data_directory(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    for unset in ("", "  "):
        monkeypatch.setenv(DATABASE_VARIABLE, unset)
        assert database_location(data_dir) == data_dir.database
    with open_database(data_dir) as store:
        assert store.path == data_dir.database.resolve()
    assert not data_dir.id_file.exists()


@on_postgres
def test_a_data_directory_keeps_its_id(
    data_dir: DataDir, tmp_path: Path, database_url: str
) -> None:
    other = DataDir(tmp_path / "other")
    other.prepare()
    ids = []
    for place in (data_dir, data_dir, other):
        with open_database(place) as store:
            ids.append(store.jobs.create("train", "a", "t", {}).data_dir_id)
    assert ids[0] == ids[1] == data_dir.id_file.read_text()
    assert ids[2] not in ("", ids[0])


@on_postgres
def test_commands_work_on_it(run: RunCommand, store: Store, data_dir: DataDir) -> None:
    job = store.jobs.create("train", "a", "t", {})
    listed = json.loads(run("jobs", "list", "--json").out)["jobs"]
    assert [one["id"] for one in listed] == [job.id]
    assert run("jobs", "cancel", job.id).status == 0
    assert store.jobs.get(job.id).status == "cancelled"
    assert not data_dir.database.exists()


@on_postgres
def test_a_jobs_files_elsewhere_are_left_alone(
    run: RunCommand, store: Store, tmp_path: Path
) -> None:
    other = DataDir(tmp_path / "other")
    other.prepare()
    with open_database(other) as elsewhere:
        job = elsewhere.jobs.create("train", "a", "t", {}, worker="w")
        elsewhere.jobs.finish(job.id, "w", "paused")
    for command in (("jobs", "delete", job.id), ("train", "--resume", job.id)):
        done = run(*command)
        assert done.status == 1
        assert "another data directory" in one_line(done)


@on_postgres
def test_a_worker_leaves_jobs_alone_whose_files_it_does_not_see(
    store: Store, data_dir: DataDir, start_worker: StartWorker, tmp_path: Path
) -> None:
    other = DataDir(tmp_path / "other")
    other.prepare()
    with open_database(other) as elsewhere:
        foreign = elsewhere.jobs.create("train", "a", "t", {"steps": 1})
    worker = start_worker()
    mine = store.jobs.create("train", "a", "t", {"steps": 1})
    wait_until(lambda: store.jobs.get(mine.id).status == "succeeded")
    assert store.jobs.get(foreign.id).status == "queued"
    assert worked_steps(data_dir, foreign.id) == []
    worker.terminate()
    worker.communicate(timeout=15)


def test_a_reaper_lets_workers_speak_first_when_the_database_is_back() -> None:
    looks: list[float] = []

    class Jobs:
        def abandon_stale(self, seconds: float, is_alive: object) -> tuple[()]:
            looks.append(time.monotonic())
            if len(looks) == 1:
                raise DatabaseWriteError("the server is away")
            return ()

    reaper = Reaper(Jobs(), interval_s=0.01, silence_s=0.5)  # type: ignore[arg-type]  # enough of it
    reaper.start()
    wait_until(lambda: len(looks) > 4)
    reaper.stop()
    assert looks[1] - looks[0] >= 0.5
    assert looks[2] - looks[1] < looks[1] - looks[0]


def test_a_dead_worker_of_another_machine_is_noticed_in_half_a_minute() -> None:
    assert STALE_S + REAP_S <= 30


@on_postgres
def test_doctor_shows_it_without_the_password(
    run: RunCommand, store: Store, postgres_server: PostgresServer
) -> None:
    store.runs.create("a", "p", "m", "dense", {})
    done = run("doctor", "--json")
    found = json.loads(done.out)["database"]
    server = f"postgresql://postgres@127.0.0.1:{postgres_server.port}/emptied"
    assert (found["server"], found["state"], found["runs"]) == (server, "ready", 1)
    assert QUOTED_PASSWORD not in done.out + done.err
    assert PASSWORD not in done.out + done.err


def test_doctor_names_what_is_wrong_with_it(
    run: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql://user:hidden@127.0.0.1:1/x")
    done = run("doctor", "--json")
    findings = json.loads(done.out)
    assert done.status == 1
    assert findings["database"]["state"] == "cannot be used"
    assert any("cannot be opened" in sentence for sentence in findings["missing"])
    assert "hidden" not in done.out + done.err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://user:hidden@host/x", "must look like postgresql://"),
        ("postgresql://user:hidden@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_a_url_that_does_not_work_is_one_clear_line(
    run: RunCommand,
    data_dir: DataDir,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    url: str,
    says: str,
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, url)
    done = run(*command)
    assert done.status == 1
    line = str(done.err).splitlines()[-1]
    assert line.startswith("error: ")
    assert says in line
    logs = "".join(path.read_text() for path in data_dir.logs.iterdir())
    assert "hidden" not in done.err + logs


@on_postgres
def test_a_wrong_password_ends_a_worker_at_once(
    data_dir: DataDir,
    database_url: str,
    stand_in_command: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, database_url.replace(QUOTED_PASSWORD, "wr0ng"))
    done = subprocess.run(stand_in_command(), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "password authentication failed" in done.stderr
    assert "wr0ng" not in done.stderr


@on_postgres
def test_a_server_that_restarts_costs_a_worker_nothing(
    store: Store, data_dir: DataDir, start_worker: StartWorker, postgres_server: PostgresServer
) -> None:
    job = store.jobs.create("train", "a", "t", {"steps": 40, "step_s": 0.05})
    start_worker(busy_timeout_s=1)
    wait_until(lambda: len(worked_steps(data_dir, job.id)) > 4)
    postgres_server.stop()
    length = len(worked_steps(data_dir, job.id))
    wait_until(lambda: len(worked_steps(data_dir, job.id)) > length + 4)
    postgres_server.start()
    wait_until(lambda: store.jobs.get(job.id).status == "succeeded", 30)
    assert [row["step"] for row in store.jobs.metrics(job.id)] == list(range(40))
