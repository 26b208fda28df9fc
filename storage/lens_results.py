"""Imported lens results: what another machine's model measured at a run's token.

A look of one's own is made again in a second and not kept.
"""

from __future__ import annotations

from sqlalchemy import select

from storage.codec import decode_json, encode_json
from storage.database import Database
from storage.dialects import insert_into
from storage.records import Record, runs_table
from storage.statements import named_table, require_id

_NO_ROW = -1  # of a generation

looks_table = named_table("looks", "run_id idx row record")


class LookStore:
    """The looks of one database. Safe to call from any thread of its process.

    Besides what a method names, any of them raises DatabaseLockedError, DatabaseWriteError or
    DatabaseCorruptError when the file gives trouble, and then has changed nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, run_id: str, index: int, row: int | None, record: Record) -> None:
        """Keep a look; it takes the place of an earlier one, and goes with its run.

        Args:
            index: of the token in the run, from 0.
            row: of an inspection; None for a generation.
            record: what was found, as JSON.
        Raises: NotFoundError when the run is gone; InvalidRecordError when ``record`` is no JSON.
        """
        key = {"run_id": run_id, "idx": index, "row": _NO_ROW if row is None else row}
        values = {**key, "record": encode_json("look", record)}
        with self._database.write() as connection:
            require_id(connection, runs_table, run_id)
            made = insert_into(connection, looks_table)
            statement = made.on_conflict_do_update(
                index_elements=list(key), set_={"record": made.excluded.record}
            )
            connection.execute(statement, values)

    def find(self, run_id: str, index: int, row: int | None) -> Record | None:
        """The look at a token; None where none came in."""
        columns = looks_table.c
        query = select(columns.record).where(
            columns.run_id == run_id,
            columns.idx == index,
            columns.row == (_NO_ROW if row is None else row),
        )
        with self._database.read() as connection:
            data = connection.execute(query).scalar_one_or_none()
        return None if data is None else decode_json(data)
