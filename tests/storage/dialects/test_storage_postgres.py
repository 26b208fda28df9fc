"""PostgreSQL's own: URLs, passwords, rights, locks on rows, one clock, a server that goes away."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import psycopg
import pytest

import storage
from storage import statements
from storage.dialects import postgres
from storage.dialects.postgres import storage_error_from_postgres
from storage.schema import LATEST_VERSION
from tests.storage.child_python import let_go, outputs_of, start_all
from tests.support.postgres_server import PASSWORD, QUOTED_PASSWORD

OPEN_ONE = """
import sys
print("ready", flush=True)
sys.stdin.readline()
with open_at(sys.argv[1]) as store:
    store.runs.create("alice", "prompt", "model", "dense", {})
"""
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture
def url(postgres_server):
    return postgres_server.emptied()


@pytest.fixture
def store(url):
    with storage.open_store(url.replace("postgresql", "postgres", 1), busy_timeout_s=0.3) as opened:
        assert opened._database.shown.startswith("postgresql://postgres@127.0.0.1:")
        yield opened


@pytest.fixture
def other(url):
    """Another program's connection, in a transaction."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


@pytest.mark.parametrize(
    "text",
    [
        "not a URL",
        "mysql://user:hidden@host/db",
        "postgresql://user:hid@den@/db@x",
        "postgresql://user:hidden@host:54x2/db",
        "postgresql://user:hidden@host:5432",
        "sqlite:///somewhere.sqlite3",
    ],
)
def test_what_is_no_url_of_a_server_is_refused_and_not_quoted(text):
    with pytest.raises(
        storage.errors.DatabaseConnectionError, match="must look like postgresql://"
    ) as caught:
        storage.open_store(text)
    assert "hid" not in str(caught.value)
    assert caught.value.__cause__ is None, "a traceback would show what SQLAlchemy quotes"


def test_a_server_that_lets_nobody_in_is_reported(postgres_server, caplog):
    caplog.set_level(logging.DEBUG)
    own = postgres_server.url("emptied")
    refused = {
        postgres_server.url("emptied", password="wr0ng"): "password authentication failed",
        postgres_server.url("emptied", user="nobody"): "password authentication failed",
        postgres_server.url("missing"): 'database "missing" does not exist',
        own.replace(str(postgres_server.port), "1"): "refused",
        own.replace("127.0.0.1", "no-such-host.invalid"): "no-such-host",
        f"{own}?password=s3cret&sslmod=x": "option",
    }
    for location, reason in refused.items():
        for look in (storage.open_store, storage.database_facts):
            with pytest.raises(
                storage.errors.DatabaseConnectionError, match="cannot be opened"
            ) as caught:
                look(location)
            message = str(caught.value)
            assert reason in message
            assert "Check host, port, user, password" in message
            for secret in ("wr0ng", "s3cr", QUOTED_PASSWORD, PASSWORD):
                assert secret not in message + caplog.text


def test_a_missing_driver_is_named_with_what_installs_it(url, monkeypatch):
    monkeypatch.setattr(postgres.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        storage.errors.DatabaseConnectionError, match=r"-m pip install 'psycopg\[binary\]>=3.2'"
    ):
        storage.open_store(url)


def test_a_newer_schema_is_refused_untouched(postgres_url, postgres_server):
    assert storage.database_facts(postgres_url).version is None, "a look makes nothing"
    name = postgres_url.rpartition("/")[2]
    assert postgres_server.sql(TABLES, name) == []
    with storage.open_store(postgres_url):
        found = storage.database_facts(postgres_url)
        assert (found.version, found.num_runs) == (LATEST_VERSION, 0)
    postgres_server.sql("UPDATE sol_schema SET version = 99", name)
    for look in (storage.open_store, storage.database_facts):
        with pytest.raises(
            storage.errors.DatabaseVersionError, match=f"version 99.*up to {LATEST_VERSION}"
        ):
            look(postgres_url)
    assert postgres_server.sql("SELECT version FROM sol_schema", name) == [(99,)]


def test_tables_of_another_program_are_left_alone(postgres_url, postgres_server):
    name = postgres_url.rpartition("/")[2]
    postgres_server.sql("CREATE TABLE runs (marathon TEXT)", name)
    with pytest.raises(storage.errors.DatabaseVersionError, match="another program's"):
        storage.open_store(postgres_url)
    assert postgres_server.sql(TABLES, name) == [("runs",)]


def test_missing_rights_are_named(postgres_url, postgres_server):
    name = postgres_url.rpartition("/")[2]
    storage.open_store(postgres_url).close()
    reader = f"CREATE ROLE reader_{name} LOGIN PASSWORD 'guest'"
    postgres_server.sql(reader, name)
    for what in ("jobs", "sol_schema"):
        postgres_server.sql(f"GRANT SELECT ON {what} TO reader_{name}", name)
    with storage.open_store(postgres_server.url(name, f"reader_{name}", "guest")) as store:
        assert store.jobs.list() == []
        with pytest.raises(storage.DatabaseWriteError, match="needs the rights"):
            store.jobs.create("train", "a", "t", {})


def test_processes_that_open_a_blank_database_at_once(postgres_url, start_python):
    children = [start_python(OPEN_ONE, postgres_url) for _ in range(4)]
    outputs = start_all(children)
    assert outputs == [""] * len(children)
    with storage.open_store(postgres_url) as store:
        assert len(store.runs.list()) == len(children)


def test_a_row_that_another_claims_is_passed_over(store, other):
    first, second = (store.jobs.create("train", "a", str(n), {}) for n in range(2))
    other.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", (first.id,))
    claimed = store.jobs.claim("w")
    assert claimed.id == second.id
    assert store.jobs.claim("w") is None
    other.rollback()
    claimed = store.jobs.claim("w")
    assert claimed.id == first.id


def test_a_locked_row_is_reported_and_stops_nobody_else(store, other):
    jobs = store.jobs
    held, free = (jobs.create("train", "a", str(n), {}, worker="w") for n in range(2))
    other.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", (held.id,))
    for change in (
        lambda: jobs.heartbeat(held.id, "w", 0.5, "x"),
        lambda: jobs.append_metrics(held.id, [{"step": 1}]),
        lambda: jobs.set_sample(held.id, {}),
        lambda: jobs.finish(held.id, "w", "succeeded", {}),
        *(partial(call, held.id) for call in (jobs.request_cancel, jobs.resume, jobs.delete)),
    ):
        with pytest.raises(storage.DatabaseLockedError, match="locked by another process"):
            change()
    assert jobs.heartbeat(free.id, "w", 0.5, "x") == "run"
    assert jobs.get(held.id) == held


@pytest.mark.parametrize("word", ["heartbeat", "finish"])
def test_a_worker_hears_of_an_ending_that_it_waited_for(url, other, word):
    """What was read before the wait does not count."""
    with storage.open_store(url) as store, ThreadPoolExecutor(1) as pool:
        job = store.jobs.create("train", "a", "t", {}, worker="w")
        other.execute("UPDATE jobs SET status = 'abandoned' WHERE id = %s", (job.id,))
        last = {"heartbeat": (0.5, "x"), "finish": ("succeeded", {})}[word]
        waiting = pool.submit(getattr(store.jobs, word), job.id, "w", *last)
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with psycopg.connect(url, autocommit=True) as watcher:
            while watcher.execute(blocked).fetchone() == (0,):
                time.sleep(0.01)
        other.commit()
        with pytest.raises(storage.errors.JobStateError, match="not this worker's"):
            waiting.result(20)
        assert store.jobs.get(job.id).status == "abandoned"


def test_times_are_the_servers(store, monkeypatch):
    """A worker whose clock is a year off neither looks dead nor kills others."""

    class Slow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2020, 1, 1, tzinfo=tz)

    monkeypatch.setattr(statements, "datetime", Slow)
    job = store.jobs.create("train", "a", "t", {}, worker="w")
    assert abs((job.created_at - datetime.now(UTC)).total_seconds()) < 60
    assert store.jobs.abandon_stale(20, lambda worker: None) == ()
    time.sleep(0.2)
    assert [dead.id for dead in store.jobs.abandon_stale(0.1, lambda worker: None)] == [job.id]


def test_a_server_that_goes_away_is_an_error_until_it_is_back(store, postgres_server):
    job = store.jobs.create("train", "a", "t", {}, worker="w")
    postgres_server.stop()
    try:
        for use in (
            lambda: store.jobs.get(job.id),
            lambda: store.jobs.heartbeat(job.id, "w", 0, ""),
        ):
            with pytest.raises(storage.DatabaseWriteError, match="does not answer"):
                use()
    finally:
        postgres_server.start()
    assert store.jobs.get(job.id) == job
    postgres_server.stop()
    postgres_server.start()
    assert store.jobs.get(job.id) == job, "a restart between two calls goes unnoticed"
    assert store.jobs.heartbeat(job.id, "w", 0.5, "x") == "run"


@pytest.mark.parametrize(
    ("leaf", "codes"),
    [
        (storage.DatabaseLockedError, ["40P01", "57014"]),
        (storage.errors.DatabaseCorruptError, ["XX001"]),
        (storage.DatabaseWriteError, ["53100", "53300", "57P01", "58030", "08006", "25006"]),
        (storage.StorageError, ["42P01"]),
    ],
)
def test_codes_become_leaves(leaf, codes):
    for code in codes:
        error = psycopg.errors.lookup(code)("what happened")
        found = storage_error_from_postgres("the database", error)
        assert type(found) is leaf
        assert "what happened" in str(found)
        assert "the database" in str(found)


CLAIM_ALL = """
import sys, time
from storage.errors import JobStateError, StorageError
store, worker = open_at(sys.argv[1]), sys.argv[2]
def tried(call):
    while True:
        try:
            return call()
        except JobStateError:
            return "was done"
        except StorageError:
            time.sleep(0.02)
print("ready", flush=True)
sys.stdin.readline()
while (job := tried(lambda: store.jobs.claim(worker))) is not None:
    print(job.id, flush=True)
    time.sleep(0.01)
    tried(lambda: store.jobs.finish(job.id, worker, "succeeded", {"by": worker}))
store.close()
"""


def test_no_job_is_done_twice_or_lost_when_the_server_is_killed(
    postgres_url, postgres_server, start_python
):
    """Killed with -9 under claims; a claim whose answer was lost is found dead, and can go on."""
    name = postgres_url.rsplit("/", 1)[1]
    postgres_server.sql(f"ALTER DATABASE {name} SET synchronous_commit = on")
    kills, processes = 3, 3
    with storage.open_store(postgres_url) as store:
        made = [store.jobs.create("train", "a", str(n), {}).id for n in range(150)]
        children = [start_python(CLAIM_ALL, postgres_url, f"w{n}") for n in range(processes)]
        let_go(children)
        for _ in range(kills):
            time.sleep(0.15)
            postgres_server.kill()
            postgres_server.start()
        claimed = [job_id for output in outputs_of(children) for job_id in output.split()]
        assert len(claimed) == len(set(claimed)), "each job once"
        assert all(store.jobs.get(job_id).status == "succeeded" for job_id in claimed)
        dead = [job.id for job in store.jobs.abandon_stale(0, lambda worker: None)]
        assert sorted(claimed + dead) == sorted(made)
        assert len(dead) <= kills * processes
        assert all(store.jobs.resume(job_id).status == "queued" for job_id in dead)
