"""A generation and an inspection as documents: JSON, and CSV with a row per token or schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.formats import cost_total, csv_text, plain_cell
from app.host.errors import DocumentError
from app.sharing.html_page import STYLES_OF
from app.sharing.run_document import RunDocument, SavedHead
from sol_core.actions import AXIS_FIELDS, SHORT_AXES, Action, ActionGrid, Budget, Spend
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
)

CORRELATED_WITH = ("surprisal", "entropy")
_TYPE = {"type": str}
_PARTS = ("attention", "mlp", "head", "policy", "rest")
_OF_SIDE = ("surprisal", "entropy", "kl_to_dense")
_RUN_COLUMNS = (
    *("index", "token_id", "text", *AXIS_FIELDS, "surprisal", "entropy", "kl_to_dense"),
    *("step_ms", *(f"{part}_ms" for part in _PARTS), "elapsed_ms"),
    *("flops", "dense_flops", "bytes_read", "dense_bytes_read"),
    *("cached_tokens", "top_text", "top_probability"),
)
_OF_TOKEN = ("index", "token_id", "text", "kind", "cached_tokens", "step_ms", "elapsed_ms")
_OF_ROW = ("schedule", *AXIS_FIELDS, "nll", "kl", "entropy", "flops", "bytes_read")
_ROW_COLUMNS = (*_OF_TOKEN, "top_text", "top_probability", *_OF_ROW)
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


def csv_of_generation(events: list[dict[str, Any]]) -> str:
    """Columns as in ``docs/formats.md``; what was not measured is an empty cell."""
    sides = dict.fromkeys(side["name"] for event in events for side in event["side"])
    columns = [*_RUN_COLUMNS, *(_side_column(name, value) for name in sides for value in _OF_SIDE)]
    return csv_text(columns, map(_run_row, events))


def _run_row(event: dict[str, Any]) -> dict[str, Any]:
    row = _axes(event) | {
        name: event[name] for name in _RUN_COLUMNS if name in event and name not in AXIS_FIELDS
    }
    row |= _texts(event)
    for prefix, cost in (("", event["cost"]), ("dense_", event["dense_cost"])):
        row |= {f"{prefix}{name}": cost[name] for name in ("flops", "bytes_read")}
    row |= {f"{part}_ms": value for part, value in (event.get("parts_ms") or {}).items()}
    for side in event["side"]:
        row |= {_side_column(side["name"], name): side[name] for name in _OF_SIDE}
    return row


def _axes(row: dict[str, Any]) -> dict[str, float]:
    """The action's values; means where they are by layer."""
    return dict(zip(AXIS_FIELDS, Action(**row["action"]).as_tuple(), strict=True))


def _texts(event: dict[str, Any]) -> dict[str, Any]:
    """The token's text, and the most probable one."""
    top = event["top"][0] if event["top"] else {}
    text, likeliest = plain_cell(event["text"]), plain_cell(top.get("text", ""))
    return {"text": text, "top_text": likeliest, "top_probability": top.get("probability")}


def _side_column(name: str, value: str) -> str:
    return plain_cell(f"{name}_{value}")


def csv_of_inspection(tokens: list[dict[str, Any]]) -> str:
    """Columns as in ``docs/formats.md``; of a token the dense row comes first."""
    return csv_text(_ROW_COLUMNS, (row for token in tokens for row in _rows(token)))


def _rows(token: dict[str, Any]) -> Iterator[dict[str, Any]]:
    shared = {name: token[name] for name in _OF_TOKEN} | _texts(token)
    shared["kind"] = plain_cell(token["kind"])
    for row in token["rows"]:
        yield (
            shared
            | _axes(row)
            | {name: row[name] for name in ("nll", "kl", "entropy")}
            | {
                "schedule": plain_cell(row["name"]),
                "flops": cost_total(row["cost"], "flops"),
                "bytes_read": cost_total(row["cost"], "bytes"),
            }
        )


GENERATION = RunDocument(
    kind="generation",
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
                Spend,
                TokenEvent,
                SideEvent,
                StepCost,  # files of before bit operations were counted
                PrefillEvent,
                FinishEvent,  # of before it named the machine
                PageReads,  # of before pages were counted one by one
            }
        ),
        nullable=frozenset({"surprisal", "entropy", "kl_to_dense", "probability", "policy"}),
    ),
    check=_check_generation,
    schedule=lambda run: str(run.schedule),
    csv=csv_of_generation,
    styles=STYLES_OF["run"],
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
        counts = {len(matched.nll), len(matched.kl) or len(tokens)}
        if matched.name not in rows[1:] or counts != {len(tokens)}:
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
        axes = row.correlation
        if axes.keys() != set(SHORT_AXES) or any(
            sorted(axis) != sorted(CORRELATED_WITH) for axis in axes.values()
        ):
            raise DocumentError(
                f"{where}.rows[{at}].correlation must have {', '.join(SHORT_AXES)}, each with "
                f"{' and '.join(CORRELATED_WITH)}"
            )
    lists = [report.least_confident]
    lists += [listed for row in report.rows for listed in (row.under_served, row.over_served)]
    for entry in (entry for listed in lists for entry in listed):
        if not 0 <= entry.index < num_tokens:
            raise DocumentError(
                f"{where} names token {entry.index}; there are tokens 0 to {num_tokens - 1}"
            )


def _check_rows(where: str, actual: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    if actual != wanted:
        raise DocumentError(
            f"{where} must be {', '.join(wanted)} as in inspection.config, got "
            f"{', '.join(actual)[:80] or 'none'}"
        )


INSPECTION = RunDocument(
    kind="inspection",
    part="inspection",
    tokens="tokens",
    names={"text": "prompt", "start": "prefill", "end": "summary"},
    head=_SharedInspection,
    token=InspectedToken,
    rules=Rules(
        # Before bit operations, painted schedules, matched static, reads of pages and kept texts.
        partial=frozenset(
            {ActionGrid, Budget, Spend, StepCost, ScheduleConfig, InspectionEnd}
            | {InspectionConfig, InspectedRow, InspectionStart}
        ),
        derived={InspectionStart: _TYPE, InspectedToken: _TYPE, InspectionEnd: _TYPE},
        nullable=frozenset({"nll", "kl", "entropy", "loss", "probability", "policy"}),
    ),
    check=_check_inspection,
    schedule=lambda inspection: ", ".join(inspection.config.rows),
    csv=csv_of_inspection,
    styles=STYLES_OF["inspection"],
)
