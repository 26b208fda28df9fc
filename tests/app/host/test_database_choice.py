"""SOL_DATABASE_URL: every command honours it, and says what is wrong with it."""

import json
import time

import pytest

from app.host.database import DATABASE_VARIABLE, database_location, open_database
from app.host.paths import DataDir
from app.jobs.worker import reaping
from storage import DatabaseWriteError
from tests.app.command_line import one_line
from tests.app.waiting import wait_until
from tests.support.postgres_server import PASSWORD, QUOTED_PASSWORD

on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
COMMANDS = [("jobs", "list"), ("worker",), ("serve", "--port", "0", "--no-browser")]


def test_without_it_the_database_is_in_the_data_directory(data_dir, monkeypatch):
    for unset in ("", "  "):
        monkeypatch.setenv(DATABASE_VARIABLE, unset)
        assert database_location(data_dir) == data_dir.database
    with open_database(data_dir):
        assert data_dir.database.exists()
    assert not data_dir.id_file.exists()


@on_postgres
def test_a_data_directory_keeps_its_id(data_dir, tmp_path, database_url):
    other = DataDir(tmp_path / "other")
    other.prepare()
    ids = []
    for place in (data_dir, data_dir, other):
        with open_database(place) as store:
            ids.append(store.jobs.create("train", "a", "t", {}).data_dir_id)
    assert ids[0] == ids[1] == data_dir.id_file.read_text()
    assert ids[2] not in ("", ids[0])


@on_postgres
def test_commands_work_on_it(run, store, data_dir):
    job = store.jobs.create("train", "a", "t", {})
    listed = json.loads(run("jobs", "list", "--json").out)["jobs"]
    assert [one["id"] for one in listed] == [job.id]
    assert run("jobs", "cancel", job.id).status == 0
    assert store.jobs.get(job.id).status == "cancelled"
    assert not data_dir.database.exists()


@on_postgres
def test_a_jobs_files_elsewhere_are_left_alone(run, store, tmp_path):
    other = DataDir(tmp_path / "other")
    other.prepare()
    with open_database(other) as elsewhere:
        job = elsewhere.jobs.create("train", "a", "t", {}, worker="w")
        elsewhere.jobs.finish(job.id, "w", "paused")
    for command in (("jobs", "delete", job.id), ("train", "--resume", job.id)):
        done = run(*command)
        assert done.status == 1
        assert "another data directory" in one_line(done)


def test_a_reaper_lets_workers_speak_first_when_the_database_is_back():
    looks = []

    class Jobs:
        def abandon_stale(self, seconds, is_alive):
            looks.append(time.monotonic())
            if len(looks) == 1:
                raise DatabaseWriteError("the server is away")
            return ()

    with reaping(Jobs(), interval_s=0.01, silence_s=0.5):
        wait_until(lambda: len(looks) > 4)
    assert looks[1] - looks[0] >= 0.5
    assert looks[2] - looks[1] < looks[1] - looks[0]


@on_postgres
def test_doctor_shows_it_without_the_password(run, store, postgres_server):
    store.runs.create("a", "p", "m", "dense", {})
    done = run("doctor", "--json")
    found = json.loads(done.out)["database"]
    server = f"postgresql://postgres@127.0.0.1:{postgres_server.port}/emptied"
    assert (found["server"], found["state"], found["runs"]) == (server, "ready", 1)
    assert QUOTED_PASSWORD not in done.out + done.err
    assert PASSWORD not in done.out + done.err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://user:hidden@host/x", "must look like postgresql://"),
        ("postgresql://user:hidden@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_a_url_that_does_not_work_is_one_clear_line(run, data_dir, monkeypatch, command, url, says):
    monkeypatch.setenv(DATABASE_VARIABLE, url)
    done = run(*command)
    assert done.status == 1
    line = str(done.err).splitlines()[-1]
    assert line.startswith("error: ")
    assert says in line
    logs = "".join(path.read_text() for path in data_dir.logs.iterdir())
    assert "hidden" not in done.err + logs
