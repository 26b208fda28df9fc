"""From a blank file, and from every released version, to today's schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import inspect

from storage import DatabaseVersionError, StorageError, Store, open_store
from storage.database import Database
from storage.dialects.postgres import PostgresBackend
from storage.dialects.sqlite import SqliteBackend
from storage.jobs.records import job_metrics_table, job_samples_table, jobs_table
from storage.migrations import LATEST_VERSION, MIGRATIONS, Migration
from storage.records import events_table, runs_table
from storage.store import migrate
from tests.storage.child_python import ENGINES
from tests.storage.released_schemas import (
    JOB_ID,
    RELEASED_SCHEMAS,
    RUN_ID,
    write_released_database,
)

TABLES = (
    runs_table,
    events_table,
    jobs_table,
    job_metrics_table,
    job_samples_table,
)


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A blank one on each engine."""
    backend = (
        SqliteBackend(request.getfixturevalue("database_path"))
        if request.param == "sqlite"
        else PostgresBackend(request.getfixturevalue("postgres_url"))
    )
    opened = Database(backend, busy_timeout_s=1.0)
    yield opened
    opened.close()


def schema_of(path: Path) -> dict[str, str]:
    """Each table's and index's SQL, white space tidied."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in rows}


def columns_of(database: Database) -> dict[str, list[str]]:
    """Each table's columns in order."""
    with database.read() as connection:
        found = inspect(connection)
        return {
            table: [column["name"] for column in found.get_columns(table)]
            for table in found.get_table_names()
        }


def saved_version(database: Database) -> int:
    with database.write() as connection:
        return database.backend.schema_version(connection)


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_numbers_count_up_from_one() -> None:
    assert [step.number for step in MIGRATIONS] == list(range(1, LATEST_VERSION + 1))
    assert all(step.name and step.statements for step in MIGRATIONS)


def test_every_version_has_a_frozen_copy() -> None:
    assert sorted(RELEASED_SCHEMAS) == list(range(1, LATEST_VERSION + 1))


@pytest.mark.parametrize("version", RELEASED_SCHEMAS)
def test_the_first_steps_still_make_each_released_schema(
    tmp_path: Path, database_path: Path, version: int
) -> None:
    """Fails when a released step was edited."""
    write_released_database(tmp_path / "released.sqlite3", version)
    database = Database(SqliteBackend(database_path))
    assert migrate(database, MIGRATIONS[:version]) == 0
    database.close()
    assert schema_of(database_path) == schema_of(tmp_path / "released.sqlite3")
    assert version_of(database_path) == version


@pytest.mark.parametrize("version", RELEASED_SCHEMAS)
def test_upgrade_keeps_the_data(tmp_path: Path, database_path: Path, version: int) -> None:
    write_released_database(database_path, version)
    with open_store(database_path) as store:
        assert store.notices == ()
        (run,) = store.runs.list(owner="alice", query="STRASSE")
        assert (run.id, run.status, run.prompt) == (RUN_ID, "finished", "Straße")
        assert (run.config, run.prefill) == ({"seed": 7}, {"prompt_tokens": 3})
        assert run.created_at == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
        assert [row["text"] for row in store.runs.events(RUN_ID)] == ["a", "b"]
        assert store.runs.append_events(RUN_ID, [{"index": 2}]) == 1
        assert store.runs.get(RUN_ID).num_tokens == 3
    with open_store(tmp_path / "fresh.sqlite3"):
        pass
    assert version_of(database_path) == LATEST_VERSION
    assert schema_of(database_path) == schema_of(tmp_path / "fresh.sqlite3")


def test_jobs_of_version_2_are_read(database_path: Path) -> None:
    write_released_database(database_path, 2)
    with open_store(database_path) as store:
        (job,) = store.jobs.list(owner="alice")
        assert (job.id, job.kind, job.status, job.title) == (JOB_ID, "train", "paused", "Straße")
        assert (job.params, job.progress, job.message) == ({"name": "p"}, 0.25, "grpo")
        assert store.jobs.metrics(JOB_ID) == [{"step": 3, "metrics": {"kl": 0.5}, "seq": 0}]
        assert store.jobs.samples(JOB_ID) == [{"step": 3}]
        assert store.jobs.append_metrics(JOB_ID, [{"step": 3}, {"step": 4}]) == 1
        assert store.jobs.resume(JOB_ID).status == "queued"


def test_queries_name_the_columns_that_exist(database: Database) -> None:
    migrate(database)
    found = columns_of(database)
    assert {table.name: list(table.columns.keys()) for table in TABLES}.items() <= found.items()


def test_indexes_and_foreign_keys_are_the_same_on_both_engines(database: Database) -> None:
    migrate(database)
    with database.read() as connection:
        found = inspect(connection)
        indexes = {
            index["name"]: index["column_names"]
            for table in TABLES
            for index in found.get_indexes(table.name)
            if not index.get("duplicates_constraint")
        }
        foreign_keys = {table.name: found.get_foreign_keys(table.name) for table in TABLES}
    assert indexes == {
        "runs_by_owner": ["owner", "seq"],
        "runs_by_parent": ["parent"],
        "jobs_by_status": ["status", "seq"],
        "jobs_by_owner": ["owner", "seq"],
    }
    referring = {"events", "job_metrics", "job_samples"}
    assert {name for name, keys in foreign_keys.items() if keys} == referring


def test_connections_have_the_pragmas(database_path: Path) -> None:
    with open_store(database_path) as store:
        check_pragmas(store)


def check_pragmas(store: Store) -> None:
    wanted = {"journal_mode": "wal", "busy_timeout": 10_000, "foreign_keys": 1, "synchronous": 1}
    for transaction in (store._database.read, store._database.write):
        with transaction() as connection:
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in wanted
            }
        assert found == wanted


def test_migrating_twice_changes_nothing(database: Database) -> None:
    assert migrate(database) == 0
    schema = columns_of(database)
    assert migrate(database) == LATEST_VERSION
    assert columns_of(database) == schema


def test_a_failing_step_leaves_the_version_before_it(database: Database) -> None:
    number = LATEST_VERSION + 1
    good = Migration(number, "good", ("CREATE TABLE extra (x INTEGER)",))
    bad = Migration(
        number + 1, "bad", ("CREATE TABLE half (x BLOB)", "CREATE TABLE extra (x REAL)")
    )
    with pytest.raises(StorageError, match=r'extra"? already exists'):
        migrate(database, (*MIGRATIONS, good, bad))
    assert saved_version(database) == number
    assert "extra" in columns_of(database)
    assert "half" not in columns_of(database)
    repaired = Migration(number + 1, "repaired", ("CREATE TABLE half (x INTEGER)",))
    assert migrate(database, (*MIGRATIONS, good, repaired)) == number
    assert "half" in columns_of(database)


def test_a_newer_version_stops_the_migration(database: Database) -> None:
    migrate(
        database,
        (*MIGRATIONS, Migration(LATEST_VERSION + 1, "later", ("CREATE TABLE t (x INTEGER)",))),
    )
    with pytest.raises(DatabaseVersionError, match=f"version {LATEST_VERSION + 1}"):
        migrate(database)
