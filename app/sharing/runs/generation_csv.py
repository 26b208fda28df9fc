"""A generation as CSV: one row per token, for spreadsheets and data frames."""

from __future__ import annotations

from typing import Any

from app.formats.csv_cells import csv_text, plain_cell
from sol_core.actions import AXES

_PARTS = ("attention", "mlp", "head", "policy", "rest")
_OF_SIDE = ("surprisal", "entropy", "kl_to_dense")
_COLUMNS = (
    *("index", "token_id", "text", *AXES, "surprisal", "entropy", "kl_to_dense"),
    *("step_ms", *(f"{part}_ms" for part in _PARTS), "elapsed_ms"),
    *("flops", "dense_flops", "bytes_read", "dense_bytes_read"),
    *("cached_tokens", "refreshed", "top_text", "top_probability"),
)


def csv_of_generation(events: list[dict[str, Any]]) -> str:
    """Columns as in ``docs/formats.md``; what was not measured is an empty cell."""
    sides = dict.fromkeys(side["name"] for event in events for side in event["side"])
    columns = [*_COLUMNS, *(_side_column(name, value) for name in sides for value in _OF_SIDE)]
    return csv_text(columns, map(_row, events))


def _row(event: dict[str, Any]) -> dict[str, Any]:
    top = event["top"][0] if event["top"] else {}
    row: dict[str, Any] = event["action"] | {
        name: event[name] for name in _COLUMNS if name in event and name not in ("text", *AXES)
    }
    row["text"] = plain_cell(event["text"])
    row["top_text"] = plain_cell(top.get("text", ""))
    row["top_probability"] = top.get("probability")
    for prefix, cost in (("", event["cost"]), ("dense_", event["dense_cost"])):
        row |= {f"{prefix}{name}": cost[name] for name in ("flops", "bytes_read")}
    row |= {f"{part}_ms": value for part, value in (event.get("parts_ms") or {}).items()}
    for side in event["side"]:
        row |= {_side_column(side["name"], name): side[name] for name in _OF_SIDE}
    return row


def _side_column(name: str, value: str) -> str:
    return plain_cell(f"{name}_{value}")
