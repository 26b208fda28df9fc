"""JSON document of a generation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.host.errors import DocumentError
from app.sharing.run_csv import csv_of_generation
from app.sharing.run_document import RunDocument, SavedHead
from sol_core.actions import ActionGrid, Budget
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig
from sol_core.events import FinishEvent, PageReads, PrefillEvent, SideEvent, StepCost, TokenEvent
from sol_core.fields import Rules

_TYPE = {"type": str}
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _SharedRun(SavedHead):
    """The part "run" of the document: a generation without its token events."""

    prompt: str
    schedule: str
    config: GenerationConfig
    prefill: PrefillEvent | None
    summary: FinishEvent | None
    parent: str | None = None


def _check(run: _SharedRun, tokens: list[TokenEvent]) -> None:
    if run.schedule != run.config.schedule.kind:
        raise DocumentError(
            f"run.schedule is {run.schedule[:40]!r}, but run.config says "
            f"{run.config.schedule.kind!r}"
        )
    if run.parent is None:
        return
    if not _ID.fullmatch(run.parent):
        raise DocumentError(f"run.parent must be the id of a run or null, got {run.parent[:40]!r}")
    if not run.config.given:
        raise DocumentError("run.parent is that of a fork, but run.config.given is empty")


GENERATION = RunDocument(
    kind="generation",
    tab="explore",
    part="run",
    tokens="events",
    names={name: name for name in ("prompt", "schedule", "prefill", "summary", "parent")},
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
            {
                _SharedRun,
                GenerationConfig,
                ScheduleConfig,
                SamplingConfig,
                ActionGrid,
                Budget,
                TokenEvent,
                SideEvent,
                StepCost,  # files of before bit operations were counted
                PrefillEvent,
                PageReads,  # of before pages were counted one by one
            }
        ),
        nullable=frozenset({"surprisal", "entropy", "kl_to_dense", "probability", "policy"}),
    ),
    check=_check,
    schedule=lambda run: str(run.schedule),
    csv=csv_of_generation,
    styles=("runs/costs", "runs/machine", "runs/dock", "runs/reading"),
)
