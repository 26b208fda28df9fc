"""A run as a JSON document, and back: everything that the database holds of it.

The records inside are the engine's events, field by field; they are checked against its own
dataclasses, so that there is no second description of them to keep in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.errors import AppError, DocumentError
from app.sharing.typed_json import Rules, restored, restored_list
from sol_core.actions import ActionGrid
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig
from sol_core.events import FinishEvent, PrefillEvent, StepCost, TokenEvent
from storage import RunRecord, RunStatus, Store

__all__ = ["RUN_FORMAT", "RUN_VERSION", "document_of_run", "ended_run", "import_run"]

RUN_FORMAT, RUN_VERSION = "sol-explorer-run", 1
MAX_TOKENS = 20_000
_TYPE = {"type": str}
_RULES = Rules(
    derived={
        PrefillEvent: _TYPE,
        TokenEvent: _TYPE,
        FinishEvent: _TYPE,
        StepCost: {"flops": float, "bytes_read": float},
    },
    partial=frozenset({GenerationConfig, ScheduleConfig, SamplingConfig, ActionGrid, TokenEvent}),
    nullable=frozenset({"surprisal", "entropy", "kl_to_dense", "probability", "policy"}),
)


@dataclass(frozen=True, slots=True)
class _SharedRun:
    """The part "run" of the document: a run without its token events.

    Attributes:
        id: where it was exported; an import gets an id of its own.
        created_at: ISO 8601 with offset.
    """

    id: str
    status: RunStatus
    title: str
    prompt: str
    model: str
    schedule: str
    created_at: str
    config: GenerationConfig
    prefill: PrefillEvent | None
    summary: FinishEvent | None
    error: str | None


def ended_run(store: Store, run_id: str) -> tuple[RunRecord, list[dict[str, Any]]]:
    """A run and its token events.

    Raises: AppError while it goes on; NotFoundError.
    """
    record = store.runs.get(run_id)
    if record.status == "running":
        raise AppError("This run is still going on. Wait until it has ended, or stop it.")
    return record, store.runs.events(run_id)


def document_of_run(store: Store, run_id: str) -> dict[str, Any]:
    """The document; its "run" and "events" hold what the database holds.

    Raises: as ``ended_run``.
    """
    record, events = ended_run(store, run_id)
    return {
        "run": {
            "id": record.id,
            "status": record.status,
            "title": record.title,
            "prompt": record.prompt,
            "model": record.model,
            "schedule": record.schedule,
            "created_at": record.created_at.isoformat(),
            "config": record.config,
            "prefill": record.prefill,
            "summary": record.summary,
            "error": record.error,
        },
        "events": events,
    }


def import_run(store: Store, owner: str, document: dict[str, Any]) -> str:
    """Check the document and save its run for ``owner``; returns the new run's id.

    Raises: DocumentError naming the first thing that is wrong.
    """
    run = restored(_SharedRun, document.get("run"), "run", _RULES)
    events = document.get("events")
    if isinstance(events, list) and len(events) > MAX_TOKENS:
        raise DocumentError(f"events holds {len(events):,} tokens; at most {MAX_TOKENS:,} are read")
    tokens = restored_list(TokenEvent, events, "events", _RULES)
    _check_run(run, tokens)
    raw = document["run"]
    record = RunRecord(
        id="",
        owner=owner,
        status=run.status,
        title=run.title,
        prompt=run.prompt,
        model=run.model,
        schedule=run.schedule,
        config=raw["config"],
        created_at=_moment(run.created_at),
        updated_at=datetime.now(UTC),
        num_tokens=len(tokens),
        prefill=raw["prefill"],
        summary=raw["summary"],
        error=run.error,
    )
    return store.runs.restore(record, document["events"]).id


def _check_run(run: _SharedRun, tokens: list[TokenEvent]) -> None:
    """What types alone do not say."""
    if run.status == "running":
        raise DocumentError("run.status must be that of a run that has ended, got 'running'")
    if run.schedule != run.config.schedule.kind:
        raise DocumentError(
            f"run.schedule is {run.schedule[:40]!r}, but run.config says "
            f"{run.config.schedule.kind!r}"
        )
    for at, token in enumerate(tokens):
        if token.index != at:
            raise DocumentError(f"events[{at}].index must be {at}, got {token.index}")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DocumentError(
            f"run.created_at must be an ISO 8601 time, got {text[:40]!r}"
        ) from error
    if moment.tzinfo is None:
        raise DocumentError(f"run.created_at must have an offset from UTC, got {text[:40]!r}")
    return moment
