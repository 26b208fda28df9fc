"""Saved runs as CSV for spreadsheets: a row per token, or per token and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from app.formats import csv_text, plain_cell
from sol_core.actions import AXIS_FIELDS, Action

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


def csv_of_generation(events: list[dict[str, Any]]) -> str:
    """Columns as in ``docs/formats.md``; what was not measured is an empty cell."""
    sides = dict.fromkeys(side["name"] for event in events for side in event["side"])
    columns = [*_RUN_COLUMNS, *(_side_column(name, value) for name in sides for value in _OF_SIDE)]
    return csv_text(columns, map(_run_row, events))


def _run_row(event: dict[str, Any]) -> dict[str, Any]:
    row = asdict(Action(**event["action"])) | {
        name: event[name] for name in _RUN_COLUMNS if name in event and name not in AXIS_FIELDS
    }
    row |= _texts(event)
    for prefix, cost in (("", event["cost"]), ("dense_", event["dense_cost"])):
        row |= {f"{prefix}{name}": cost[name] for name in ("flops", "bytes_read")}
    row |= {f"{part}_ms": value for part, value in (event.get("parts_ms") or {}).items()}
    for side in event["side"]:
        row |= {_side_column(side["name"], name): side[name] for name in _OF_SIDE}
    return row


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
        cost = row["cost"].items()
        yield (
            shared
            | asdict(Action(**row["action"]))
            | {name: row[name] for name in ("nll", "kl", "entropy")}
            | {
                "schedule": plain_cell(row["name"]),
                "flops": sum(value for name, value in cost if name.endswith("_flops")),
                "bytes_read": sum(value for name, value in cost if name.endswith("_bytes")),
            }
        )
