"""Saved run: the record that the app sees and the tables it is kept in.

The migrations create the tables; the columns here are those that the queries name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Row, String, Table

from storage.codec import RowReader

RunStatus = Literal["running", "finished", "stopped", "failed", "interrupted"]
RunKind = Literal["generation", "inspection"]
FINAL_STATUSES = tuple(status for status in get_args(RunStatus) if status != "running")

Record = dict[str, Any]

TITLE_LENGTH = 80  # characters, the ellipsis included

_metadata = MetaData()

# The migrations create these tables; here are only the columns that the queries name.
runs_table = Table(
    "runs",
    _metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("id", String, nullable=False),
    Column("owner", LargeBinary, nullable=False),
    Column("status", String, nullable=False),
    Column("title", LargeBinary, nullable=False),
    Column("prompt", LargeBinary, nullable=False),
    Column("search_text", LargeBinary, nullable=False),
    Column("model", LargeBinary, nullable=False),
    Column("schedule", LargeBinary, nullable=False),
    Column("config", LargeBinary, nullable=False),
    Column("prefill", LargeBinary),
    Column("summary", LargeBinary),
    Column("error", LargeBinary),
    Column("num_tokens", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("data_dir_id", String, nullable=False),
)
events_table = Table(
    "events",
    _metadata,
    Column("run_id", String, primary_key=True),
    Column("idx", BigInteger, primary_key=True),
    Column("record", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One saved run.

    Attributes:
        id: url-safe, random.
        kind: whether its tokens were generated, or those of a given text inspected.
        title: first line of the prompt, at most ``TITLE_LENGTH`` characters.
        prompt: the text that was continued, or inspected.
        schedule: label of the schedule's kind, such as "static".
        config: what the run was asked to do, as JSON.
        created_at, updated_at: aware, UTC; updated_at moves with every change of the run.
        num_tokens: token events saved so far.
        prefill, summary: the prefill and finish events as JSON; None until they are known.
        error: what went wrong, in the user's words; None when nothing did.
        damage: why parts of the row cannot be read, which are then empty; None when all can.
    """

    id: str
    owner: str
    status: RunStatus
    title: str
    prompt: str
    model: str
    schedule: str
    config: Record
    created_at: datetime
    updated_at: datetime
    num_tokens: int
    prefill: Record | None
    summary: Record | None
    error: str | None
    kind: RunKind = "generation"
    damage: str | None = None


def title_of(prompt: str) -> str:
    """First line of the prompt that is not blank, its white space tidied and its end cut."""
    lines = (" ".join(line.split()) for line in prompt.splitlines())
    title = next((line for line in lines if line), "(empty prompt)")
    if len(title) <= TITLE_LENGTH:
        return title
    return title[: TITLE_LENGTH - 1].rstrip() + "…"


def run_record_of(row: Row[Any]) -> RunRecord:
    reader = RowReader()
    return RunRecord(
        id=row.id,
        owner=reader.text(row.owner),
        status=row.status,
        title=reader.text(row.title),
        prompt=reader.text(row.prompt),
        model=reader.text(row.model),
        schedule=reader.text(row.schedule),
        config=reader.json(row.config),
        created_at=reader.time(row.created_us),
        updated_at=reader.time(row.updated_us),
        num_tokens=row.num_tokens,
        prefill=None if row.prefill is None else reader.json(row.prefill),
        summary=None if row.summary is None else reader.json(row.summary),
        error=None if row.error is None else reader.text(row.error),
        kind=row.kind,
        damage=reader.damage,
    )
