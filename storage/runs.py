"""Generation runs and their token events: one row per run, one row per token.

Each call is one short transaction, so what it has returned survives a crash of the process. Lists
are in the order of creation, newest first, whatever the clock did.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from storage import codec, statements
from storage.database import Database
from storage.errors import DatabaseCorruptError
from storage.records import Record, RestoredRun, RunKind, RunRecord, RunStatus, StoredSize, title_of
from storage.schema import events_table, runs_table

_ID_BYTES = 9  # 12 url-safe characters
_MAX_INDEX = 2**31 - 1


# RunStore has a method called ``list``, which hides the built-in from its annotations.
_Records = list[Record]
_Ids = list[str]


def new_run_id() -> str:
    """An id that no run has; without a dash, which a command line takes for an option's."""
    return secrets.token_urlsafe(_ID_BYTES).replace("-", "_")


class RunStore:
    """The runs of one database, for the threads of its process; any call may raise StorageError."""

    def __init__(self, database: Database, data_dir_id: str = "") -> None:
        self._database = database
        self._data_dir_id = data_dir_id

    def create(
        self,
        owner: str,
        prompt: str,
        model: str,
        schedule: str,
        config: Record,
        kind: RunKind = "generation",
        *,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> RunRecord:
        """Save a new run with status "running" and return it, or the one that has ``run_id``.

        Raises: InvalidRecordError when ``config`` is not JSON (NaN and infinity are not).
        """
        values = {
            **_naming_columns(owner, prompt, title_of(prompt), model, schedule),
            "id": run_id or new_run_id(),
            "status": "running",
            "config": codec.encode_json("config", config),
            "kind": kind,
            "num_tokens": 0,
            "data_dir_id": self._data_dir_id,
            "parent": parent,
        }
        with self._database.write() as connection:
            values["created_us"] = values["updated_us"] = statements.now_us(connection)
            statement = statements.insert_into(connection, runs_table).on_conflict_do_nothing()
            connection.execute(statement, values)
            return _run(connection, str(values["id"]))

    def restore(self, runs: Sequence[RestoredRun]) -> _Ids:
        """Save runs that were made elsewhere, all or none, the last as the newest; new ids.

        Raises: InvalidRecordError for a part that is not JSON.
        """
        made = [self._restored_values(run, len(rows)) for run, rows in runs]
        ids = [str(values["id"]) for values in made]
        events = [_event_values(run_id, rows) for run_id, (_, rows) in zip(ids, runs, strict=True)]
        with self._database.write() as connection:
            for values, tokens in zip(made, events, strict=True):
                connection.execute(sa.insert(runs_table), values)
                if tokens:
                    connection.execute(sa.insert(events_table), tokens)
        return ids

    def _restored_values(self, run: RunRecord, num_tokens: int) -> Record:
        return {
            **_naming_columns(run.owner, run.prompt, run.title, run.model, run.schedule),
            "id": new_run_id(),
            "status": run.status,
            "kind": run.kind,
            "config": codec.encode_json("config", run.config),
            "prefill": codec.json_or_none("prefill", run.prefill),
            "summary": codec.json_or_none("summary", run.summary),
            "error": codec.text_or_none("error", run.error),
            "num_tokens": num_tokens,
            "data_dir_id": self._data_dir_id,
            "parent": run.parent,
            "created_us": codec.encode_time(run.created_at),
            "updated_us": codec.encode_time(run.updated_at),
        }

    def append_events(self, run_id: str, rows: Sequence[Record]) -> int:
        """Save token events, each with its "index"; return how many were new.

        One whose index is saved already is left as it was. Raises: NotFoundError;
        InvalidRecordError, and then no row of the batch is saved.
        """
        values = _event_values(run_id, rows)
        with self._database.write() as connection:
            statements.require_id(connection, runs_table, run_id, lock=True)
            if not values:
                return 0
            statement = statements.insert_into(connection, events_table).on_conflict_do_nothing()
            counting = statement.execution_options(preserve_rowcount=True)
            num_new = connection.execute(counting, values).rowcount
            if num_new:
                num_tokens = runs_table.c.num_tokens + num_new
                statements.change_row(connection, runs_table, run_id, num_tokens=num_tokens)
            return num_new

    def set_prefill(self, run_id: str, prefill: Record) -> None:
        """Save the prefill event. Raises: NotFoundError, InvalidRecordError."""
        data = codec.encode_json("prefill", prefill)
        with self._database.write() as connection:
            statements.change_row(connection, runs_table, run_id, prefill=data)

    def finish(
        self,
        run_id: str,
        status: RunStatus,
        summary: Record | None = None,
        error: str | None = None,
    ) -> None:
        """Give the run its final status. Raises: NotFoundError; InvalidRecordError."""
        values = {
            "status": status,
            "summary": codec.json_or_none("summary", summary),
            "error": codec.text_or_none("error", error),
        }
        with self._database.write() as connection:
            statements.change_row(connection, runs_table, run_id, **values)

    def get(self, run_id: str, allow_damage: bool = False) -> RunRecord:
        """The run. Raises: NotFoundError; DatabaseCorruptError for a damaged one unless allowed."""
        with self._database.read() as connection:
            record = _run(connection, run_id)
        if record.damage is not None and not allow_damage:
            raise DatabaseCorruptError(record.damage)
        return record

    def events(self, run_id: str, after: int = -1, limit: int | None = None) -> _Records:
        """Token events in order, those above index ``after``, at most ``limit``."""
        query = (
            sa.select(events_table.c.record)
            .where(events_table.c.run_id == run_id, events_table.c.idx > after)
            .order_by(events_table.c.idx)
            .limit(limit)
        )
        with self._database.read() as connection:
            blobs = connection.execute(query).scalars().all()
            if not blobs:
                statements.require_id(connection, runs_table, run_id)
        return [codec.decode_json(blob) for blob in blobs]

    def list(
        self,
        owner: str | None = None,
        limit: int = 50,
        before: str | None = None,
        query: str = "",
        kind: RunKind | None = None,
    ) -> Sequence[RunRecord]:
        """Runs, newest first and older than the run ``before``; damaged ones say so in ``damage``.

        ``query`` is a text that the prompt must contain, upper and lower case alike. Raises:
        NotFoundError when the run ``before`` was deleted; InvalidRecordError.
        """
        conditions = []
        if kind is not None:
            conditions.append(runs_table.c.kind == kind)
        needle = codec.encode_text("query", query.casefold())
        with self._database.read() as connection:
            if needle:
                conditions.append(statements.contains(connection, runs_table.c.search_text, needle))
            rows = statements.newest_rows(connection, runs_table, owner, limit, before, *conditions)
        return [codec.read_row(RunRecord, row) for row in rows]

    def count_naming(self, policy: str, owner: str | None = None) -> int:
        """Number of runs, of this owner, whose configurations or rows name this policy."""
        # As ``encode_json`` writes it; a quotation mark inside a text would be escaped.
        needle = codec.encode_json("policy", {"policy": policy})[1:-1]
        statement = sa.select(sa.func.count(runs_table.c.seq))
        if owner is not None:
            statement = statement.where(runs_table.c.owner == codec.encode_text("owner", owner))
        with self._database.read() as connection:
            statement = statement.where(
                statements.contains(connection, runs_table.c.config, needle)
            )
            return int(connection.execute(statement).scalar_one())

    def delete(self, run_id: str) -> None:
        """Delete the run and its events for good. Raises: NotFoundError."""
        with self._database.write() as connection:
            statements.delete_row(connection, runs_table, run_id)

    def delete_beyond(self, kept: int) -> int:
        """Delete every owner's ended runs but the ``kept`` newest ones; return how many."""
        rank = sa.func.row_number().over(
            partition_by=runs_table.c.owner, order_by=runs_table.c.seq.desc()
        )
        ranked = sa.select(runs_table.c.id, rank.label("rank")).subquery()
        return self.delete_ended(sa.select(ranked.c.id).where(ranked.c.rank > kept))

    def sizes(self) -> Sequence[StoredSize]:
        """Return the bytes of every ended run, oldest first. Reads through the whole database."""
        run = runs_table.c
        texts = (run.prompt, run.search_text, run.config, run.error)
        columns = (*texts, run.prefill, run.summary, run.preview)
        parts = (sa.func.coalesce(sa.func.length(column), 0) for column in columns)
        size: sa.ColumnElement[int] = sum(parts, sa.literal(0))
        events = sa.select(sa.func.sum(sa.func.length(events_table.c.record)))
        size += sa.func.coalesce(events.where(events_table.c.run_id == run.id).scalar_subquery(), 0)
        query = sa.select(run.id, run.owner, size).where(run.status != "running").order_by(run.seq)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [StoredSize(row[0], row[1], int(row[2])) for row in rows]

    def delete_ended(self, run_ids: Sequence[str] | sa.Select[tuple[str]]) -> int:
        """Delete those of the runs that have ended; return how many."""
        columns = runs_table.c
        these = sa.delete(runs_table).where(columns.status != "running", columns.id.in_(run_ids))
        with self._database.write() as connection:
            return connection.execute(these).rowcount

    def mark_interrupted(self) -> int:
        """Turn running runs of this data directory into interrupted ones; return how many."""
        columns = runs_table.c
        statement = sa.update(runs_table).where(
            columns.status == "running", columns.data_dir_id.in_(("", self._data_dir_id))
        )
        with self._database.write() as connection:
            values = {"status": "interrupted", "updated_us": statements.now_us(connection)}
            return connection.execute(statement, values).rowcount


def _naming_columns(
    owner: str, prompt: str, title: str, model: str, schedule: str
) -> dict[str, Any]:
    return {
        "owner": codec.encode_text("owner", owner),
        "prompt": codec.encode_text("prompt", prompt),
        "title": codec.encode_text("title", title),
        # Case-folded here because SQLite folds ASCII letters only.
        "search_text": codec.encode_text("prompt", prompt.casefold()),
        "model": codec.encode_text("model", model),
        "schedule": codec.encode_text("schedule", schedule),
    }


def _event_values(run_id: str, rows: Sequence[Record]) -> _Records:
    return [
        {
            "run_id": run_id,
            "idx": codec.number_of(row, "A token event", "index", _MAX_INDEX),
            "record": codec.encode_json("token event", row),
        }
        for row in rows
    ]


def _run(connection: sa.Connection, run_id: str) -> RunRecord:
    return codec.read_row(RunRecord, statements.require_row(connection, runs_table, run_id))
