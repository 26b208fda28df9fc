"""JSON document of a generation."""

from __future__ import annotations

from dataclasses import dataclass

from app.host.errors import DocumentError
from app.sharing.runs.run_document import RunDocument, SavedHead
from sol_core.actions import ActionGrid
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig
from sol_core.events import FinishEvent, PrefillEvent, SideEvent, StepCost, TokenEvent
from sol_core.fields import Rules

_TYPE = {"type": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class _SharedRun(SavedHead):
    """The part "run" of the document: a generation without its token events."""

    prompt: str
    schedule: str
    config: GenerationConfig
    prefill: PrefillEvent | None
    summary: FinishEvent | None


def _check(run: _SharedRun, tokens: list[TokenEvent]) -> None:
    if run.schedule != run.config.schedule.kind:
        raise DocumentError(
            f"run.schedule is {run.schedule[:40]!r}, but run.config says "
            f"{run.config.schedule.kind!r}"
        )


GENERATION = RunDocument(
    kind="generation",
    part="run",
    tokens="events",
    names={name: name for name in ("prompt", "schedule", "prefill", "summary")},
    head=_SharedRun,
    token=TokenEvent,
    rules=Rules(
        derived={
            PrefillEvent: _TYPE,
            TokenEvent: _TYPE,
            FinishEvent: _TYPE,
            StepCost: {"flops": float, "bytes_read": float},
        },
        partial=frozenset(
            {GenerationConfig, ScheduleConfig, SamplingConfig, ActionGrid, TokenEvent, SideEvent}
        ),
        nullable=frozenset({"surprisal", "entropy", "kl_to_dense", "probability", "policy"}),
    ),
    check=_check,
    schedule=lambda run: str(run.schedule),
)
