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
        parent: id of the run that it is a fork of, which may be gone; None for no fork.
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
    parent: str | None = None
    damage: str | None = None


class RunSize(NamedTuple):
    """Bytes that a run takes with everything that goes with it, indices not counted.

    ``owner`` is as stored: one that is damaged is an owner too.
    """

    id: str
    owner: bytes
    num_bytes: int


def title_of(prompt: str) -> str:
    """First line of the prompt that is not blank, its white space tidied and its end cut."""
    lines = (" ".join(line.split()) for line in prompt.splitlines())
    line = next((line for line in lines if line), "(empty prompt)")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"
