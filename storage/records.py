"""Saved run, and saved job, work that a worker process does in the background: the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

RunStatus = Literal["running", "finished", "stopped", "failed", "interrupted"]
RunKind = Literal["generation", "inspection"]

Record = dict[str, Any]

# "benchmark" is the stored word of accuracy on tasks, ``TASKS_JOB``: databases of all releases
# have it, and workers of two releases may share one.
JobKind = Literal["train", "evaluate", "benchmark"]
TASKS_JOB: JobKind = "benchmark"
# paused: checkpointed and released at the user's wish; abandoned: its worker died.
JobStatus = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "abandoned"]
# The user's request to a running job, which its worker reads with every heartbeat.
JobControl = Literal["run", "pause", "cancel"]

LIVE_STATUSES: tuple[JobStatus, ...] = ("queued", "running", "paused")
ENDED_STATUSES: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled", "abandoned")
RESUMABLE_STATUSES = ("paused", "failed", "cancelled", "abandoned")

_QUESTIONS, _ANSWERS = ("Question:", "Q:"), ("Answer:", "A:")
TITLE_LENGTH = 80  # characters, the ellipsis included


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A saved run. Times are aware, UTC."""

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


# A run that was made elsewhere, with its token events; its id is another once it is saved.
RestoredRun = tuple[RunRecord, Sequence[Record]]


class StoredSize(NamedTuple):
    """Bytes that a run or a job takes; ``owner``, or its address, as stored: damaged ones count."""

    id: str
    owner: bytes
    num_bytes: int


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job. Times are aware, UTC."""

    id: str  # hex digits, random; also names the job's folder and log file
    kind: JobKind
    owner: str
    title: str
    status: JobStatus
    params: Record  # what the job was asked to do, as JSON
    progress: float  # fraction of the work that is done, in [0, 1]
    message: str  # what is being done, in the user's words
    eta_s: float | None  # seconds left, estimated; None while unknown or not running
    result: Record | None  # as JSON; None until it succeeded
    error: str | None  # in the user's words
    log_file: str | None  # absolute path; None before the first start, as worker
    worker: str | None  # id of the process that runs it, or ran it last
    control: JobControl  # what the user wishes of the running job
    created_at: datetime
    started_at: datetime | None  # the first time
    heartbeat_at: datetime | None
    finished_at: datetime | None  # None when it goes on again
    updated_at: datetime
    seq: int  # order of creation
    data_dir_id: str = ""  # of the folder where its files are; "" for jobs older than such ids
    address: str | None = None  # network address on a public server, which takes turns
    damage: str | None = None  # why parts of the row cannot be read, which are then empty

    @property
    def has_ended(self) -> bool:
        """Return whether nothing more happens unless somebody resumes it."""
        return self.status in ENDED_STATUSES


def title_of(prompt: str) -> str:
    """The prompt's last question where its end answers one, else its first line that is not blank.

    White space is tidied and the end cut.
    """
    lines = [line for line in (" ".join(line.split()) for line in prompt.splitlines()) if line]
    line = lines[0] if lines else "(empty prompt)"
    if len(lines) > 1 and lines[-1].startswith(_ANSWERS) and lines[-2].startswith(_QUESTIONS):
        line = lines[-2].partition(":")[2].strip() or line
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"
