"""Saved run: the record that the app sees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

RunStatus = Literal["running", "finished", "stopped", "failed", "interrupted"]
RunKind = Literal["generation", "inspection"]
FINAL_STATUSES = tuple(status for status in get_args(RunStatus) if status != "running")

Record = dict[str, Any]

TITLE_LENGTH = 80  # characters, the ellipsis included


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One saved run. Times are aware, UTC."""

    id: str  # url-safe, random
    owner: str
    status: RunStatus
    title: str  # first line of the prompt, at most ``TITLE_LENGTH`` characters
    prompt: str  # the text that was continued, or inspected
    model: str
    schedule: str  # label of the schedule's kind, such as "static"
    config: Record  # what the run was asked to do, as JSON
    created_at: datetime
    updated_at: datetime  # moves with every change of the run
    num_tokens: int  # token events saved so far
    prefill: Record | None  # event as JSON, as summary; None until it is known
    summary: Record | None
    error: str | None  # in the user's words
    kind: RunKind = "generation"  # or the tokens of a given text were inspected
    parent: str | None = None  # id of the run that it is a fork of, which may be gone
    damage: str | None = None  # why parts of the row cannot be read, which are then empty


class RunSize(NamedTuple):
    """Bytes that a run takes; ``owner`` is as stored: one that is damaged is an owner too."""

    id: str
    owner: bytes
    num_bytes: int


def title_of(prompt: str) -> str:
    """First line of the prompt that is not blank, its white space tidied and its end cut."""
    lines = (" ".join(line.split()) for line in prompt.splitlines())
    line = next((line for line in lines if line), "(empty prompt)")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"
