"""An inspection as CSV: one row per token and schedule, as data frames like it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.formats.csv_cells import csv_text, plain_cell
from sol_core.actions import AXES

_OF_TOKEN = ("index", "token_id", "text", "kind", "cached_tokens", "step_ms", "elapsed_ms")
_OF_ROW = ("schedule", *AXES, "nll", "kl", "entropy", "flops", "bytes_read")
_COLUMNS = (*_OF_TOKEN, "top_text", "top_probability", *_OF_ROW)


def csv_of_inspection(tokens: list[dict[str, Any]]) -> str:
    """Columns as in ``docs/formats.md``; of a token the dense row comes first."""
    return csv_text(_COLUMNS, (row for token in tokens for row in _rows(token)))


def _rows(token: dict[str, Any]) -> Iterator[dict[str, Any]]:
    top = token["top"][0] if token["top"] else {}
    shared = {name: token[name] for name in _OF_TOKEN} | {
        "text": plain_cell(token["text"]),
        "kind": plain_cell(token["kind"]),
        "top_text": plain_cell(top.get("text", "")),
        "top_probability": top.get("probability"),
    }
    for row in token["rows"]:
        cost = row["cost"].items()
        yield (
            shared
            | row["action"]
            | {name: row[name] for name in ("nll", "kl", "entropy")}
            | {
                "schedule": plain_cell(row["name"]),
                "flops": sum(value for name, value in cost if name.endswith("_flops")),
                "bytes_read": sum(value for name, value in cost if name.endswith("_bytes")),
            }
        )
