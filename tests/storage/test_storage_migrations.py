"""From a blank file, and from every released version, to today's schema."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import inspect

from storage import StorageError, open_store
from storage.database import Database
from storage.dialects.postgres import PostgresBackend
from storage.dialects.sqlite import SqliteBackend
from storage.schema import (
    LATEST_VERSION,
    events_table,
    job_metrics_table,
    job_samples_table,
    jobs_table,
    runs_table,
)
from storage.store import migrate
from tests.storage.child_python import ENGINES
from tests.storage.released_schemas import JOB_ID, RUN_ID, VERSIONS, write_released_database

TABLES = (runs_table, events_table, jobs_table, job_metrics_table, job_samples_table)


@pytest.fixture(params=ENGINES)
def database(request):
    """A blank one on each engine."""
    backend = (
        SqliteBackend(request.getfixturevalue("database_path"))
        if request.param == "sqlite"
        else PostgresBackend(request.getfixturevalue("postgres_url"))
    )
    opened = Database(backend, busy_timeout_s=1.0)
    yield opened
    opened.close()


def schema_of(path):
    """The version; each table's columns (name, type, default, place in the key), indexes, links."""
    columns = "SELECT name, type, dflt_value, pk FROM pragma_table_info(?)"
    indexes = (
        'SELECT i.name, i."unique", group_concat(c.name) '
        "FROM pragma_index_list(?) i, pragma_index_info(i.name) c GROUP BY i.name ORDER BY i.name"
    )
    links = 'SELECT "table", "from", "to", on_delete FROM pragma_foreign_key_list(?)'
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        found = {
            name: [row for one in (columns, indexes, links) for row in connection.execute(one, of)]
            for of in names
            for name in of
        }
        return found | {"": connection.execute("PRAGMA user_version").fetchall()}


def columns_of(database):
    """Each table's columns in order."""
    with database.read() as connection:
        found = inspect(connection)
        return {
            table: [column["name"] for column in found.get_columns(table)]
            for table in found.get_table_names()
        }


def test_every_version_has_a_frozen_copy():
    assert tuple(range(1, LATEST_VERSION + 1)) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_upgrade_keeps_the_data(tmp_path, database_path, version):
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
        if version > 1:
            check_job(store)
    with open_store(tmp_path / "fresh.sqlite3"):
        pass
    assert schema_of(database_path) == schema_of(tmp_path / "fresh.sqlite3")


def check_job(store):
    (job,) = store.jobs.list(owner="alice")
    assert (job.id, job.kind, job.status, job.title) == (JOB_ID, "train", "paused", "Straße")
    assert (job.params, job.progress, job.message) == ({"name": "p"}, 0.25, "grpo")
    assert store.jobs.metrics(JOB_ID) == [{"step": 3, "metrics": {"kl": 0.5}, "seq": 0}]
    assert store.jobs.samples(JOB_ID) == [{"step": 3}]
    assert store.jobs.append_metrics(JOB_ID, [{"step": 3}, {"step": 4}]) == 1
    assert store.jobs.resume(JOB_ID).status == "queued"


def test_both_engines_have_the_same_tables_indexes_and_foreign_keys(database):
    migrate(database)
    assert {t.name: list(t.columns.keys()) for t in TABLES}.items() <= columns_of(database).items()
    with database.read() as connection:
        found = inspect(connection)
        indexes = {
            index["name"]: index["column_names"]
            for table in TABLES
            for index in found.get_indexes(table.name)
            if not index.get("duplicates_constraint")
        }
        referring = {table.name for table in TABLES if found.get_foreign_keys(table.name)}
    assert indexes == {
        "runs_by_owner": ["owner", "seq"],
        "runs_by_parent": ["parent"],
        "jobs_by_status": ["status", "seq"],
        "jobs_by_owner": ["owner", "seq"],
    }
    assert referring == {"events", "job_metrics", "job_samples"}


def test_connections_have_the_pragmas(database_path):
    wanted = {"journal_mode": "wal", "busy_timeout": 10_000, "foreign_keys": 1, "synchronous": 1}
    with open_store(database_path) as store:
        for transaction in (store._database.read, store._database.write):
            with transaction() as connection:
                found = {
                    name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                    for name in wanted
                }
            assert found == wanted


def test_a_failing_migration_changes_nothing(database):
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE jobs_by_owner (x INTEGER)")
    with pytest.raises(StorageError, match=r"already (exists|a table)"):
        migrate(database)
    assert set(columns_of(database)) <= {"jobs_by_owner", "sol_schema"}
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE jobs_by_owner")
    assert migrate(database) == 0
    assert migrate(database) == LATEST_VERSION


def test_columns_and_indexes_of_later_versions_are_added_on_both_engines(database):
    assert migrate(database) == 0
    schema = columns_of(database)
    with database.write() as connection:  # as version 6 had them
        connection.exec_driver_sql("DROP INDEX runs_by_parent")
        for column in ("preview", "parent"):
            connection.exec_driver_sql(f"ALTER TABLE runs DROP COLUMN {column}")
        connection.exec_driver_sql("CREATE TABLE looks (x INTEGER)")
        database.backend.set_schema_version(connection, 6)
    assert migrate(database) == 6
    assert migrate(database) == LATEST_VERSION
    assert columns_of(database) == schema
    with database.read() as connection:
        assert "runs_by_parent" in {i["name"] for i in inspect(connection).get_indexes("runs")}
