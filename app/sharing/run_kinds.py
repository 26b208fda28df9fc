"""JSON documents of a generation and of an inspection."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.host.errors import DocumentError
from app.sharing.run_csv import csv_of_generation, csv_of_inspection
from app.sharing.run_document import RunDocument, SavedHead
from sol_core.actions import SHORT_AXES, ActionGrid, Budget
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig
from sol_core.events import FinishEvent, PageReads, PrefillEvent, SideEvent, StepCost, TokenEvent
from sol_core.fields import Rules
from sol_core.inspection.records import (
    DifficultyReport,
    InspectedRow,
    InspectedToken,
    InspectionConfig,
    InspectionEnd,
    InspectionStart,
    RowReport,
)

CORRELATED_WITH = ("surprisal", "entropy")
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


def _check_generation(run: _SharedRun, tokens: list[TokenEvent]) -> None:
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
    check=_check_generation,
    schedule=lambda run: str(run.schedule),
    csv=csv_of_generation,
    styles=("runs/costs", "runs/machine", "runs/dock", "runs/reading"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SharedInspection(SavedHead):
    """The part "inspection" of the document: an inspection without its tokens."""

    text: str
    config: InspectionConfig
    start: InspectionStart | None
    end: InspectionEnd | None


def _check_inspection(inspection: _SharedInspection, tokens: list[InspectedToken]) -> None:
    """Rows are the configuration's everywhere, and whatever names a token names one there is."""
    rows = inspection.config.rows
    start, end = inspection.start, inspection.end
    if start is None:
        if tokens:
            raise DocumentError("inspection.start must be an object where there are tokens")
    else:
        _check_rows("inspection.start.rows", start.rows, rows)
        if not start.prefix:
            raise DocumentError("inspection.start.prefix must hold at least one token")
    for at, token in enumerate(tokens):
        _check_rows(f"tokens[{at}].rows", tuple(row.name for row in token.rows), rows)
    if end is None:
        return
    if end.rows:
        _check_rows("inspection.end.rows", tuple(row.name for row in end.rows), rows)
    for matched in end.matched:
        if matched.name not in rows[1:] or len(matched.nll) != len(tokens):
            raise DocumentError(
                "inspection.end.matched must name rows of inspection.config, with a number for "
                f"each of the {len(tokens)} tokens"
            )
    if end.report is not None:
        _check_report(end.report, rows[1:], len(tokens))


def _check_report(report: DifficultyReport, rows: tuple[str, ...], num_tokens: int) -> None:
    where = "inspection.end.report"
    _check_rows(f"{where}.rows", tuple(row.name for row in report.rows), rows)
    for at, row in enumerate(report.rows):
        _check_correlation(row, f"{where}.rows[{at}].correlation")
    lists = [report.least_confident]
    lists += [places for row in report.rows for places in (row.under_served, row.over_served)]
    for place in (place for places in lists for place in places):
        if not 0 <= place.index < num_tokens:
            raise DocumentError(
                f"{where} names token {place.index}; there are tokens 0 to {num_tokens - 1}"
            )


def _check_correlation(row: RowReport, where: str) -> None:
    if row.correlation.keys() != set(SHORT_AXES) or any(
        sorted(axis) != sorted(CORRELATED_WITH) for axis in row.correlation.values()
    ):
        raise DocumentError(
            f"{where} must have {', '.join(SHORT_AXES)}, each with {' and '.join(CORRELATED_WITH)}"
        )


def _check_rows(where: str, actual: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    if actual != wanted:
        raise DocumentError(
            f"{where} must be {', '.join(wanted)} as in inspection.config, got "
            f"{', '.join(actual)[:80] or 'none'}"
        )


INSPECTION = RunDocument(
    kind="inspection",
    tab="inspect",
    part="inspection",
    tokens="tokens",
    names={"text": "prompt", "start": "prefill", "end": "summary"},
    head=_SharedInspection,
    token=InspectedToken,
    rules=Rules(
        # Before bit operations, painted schedules, matched static and reads of pages.
        partial=frozenset(
            {ActionGrid, Budget, StepCost, ScheduleConfig, InspectionEnd}
            | {InspectionConfig, InspectedRow}
        ),
        derived={InspectionStart: _TYPE, InspectedToken: _TYPE, InspectionEnd: _TYPE},
        nullable=frozenset({"nll", "kl", "entropy", "loss", "probability", "policy"}),
    ),
    check=_check_inspection,
    schedule=lambda inspection: ", ".join(inspection.config.rows),
    csv=csv_of_inspection,
    styles=("runs/costs", "inspect", "runs/reading"),
)
