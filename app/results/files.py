"""A result as a file to keep: one CSV row per budget and method, or text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from app import formats
from app.results.figures import FORMER
from sol_core.actions import SHORT_AXES

_PAIRED = (
    *(f"{loss}_{part}" for loss in ("nll", "kl") for part in ("gain", "low", "high")),
    *("nll_verdict", "kl_verdict"),
)
_READ = ("bytes_share", "bytes_per_token", "dense_bytes_per_token")
_COLUMNS = (
    *(f"requested_{axis}" for axis in SHORT_AXES),
    "method",
    "nll",
    "kl",
    "perplexity",
    "net_keep_rate",
    *(f"spend_{axis}" for axis in SHORT_AXES),
    *_PAIRED,
    "requested_share",
    *_READ,
)


def csv_text(result: dict[str, Any]) -> str:
    """One row per budget and method, with the policy's gain over that method and its interval."""
    return formats.csv_text(_COLUMNS, _rows(result), line_end="\n")


def text_losses_csv(losses: Sequence[dict[str, Any]]) -> str:
    """The losses of every text, one row per text, budget and method."""
    columns = tuple(losses[0]) if losses else ()
    rows = (row | {"method": formats.plain_cell(row["method"])} for row in losses)
    return formats.csv_text(columns, rows, line_end="\n")


def _rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for budget in result.get("budgets", []):
        asked = (*SHORT_AXES, "share")
        requested = {f"requested_{name}": budget["requested"].get(name) for name in asked}
        for name, method in budget["methods"].items():
            spend = method.get("spend", {})
            paired = budget.get("paired", {}).get(name, {})
            paired |= {new: paired[old] for old, new in FORMER.items() if old in paired}
            yield (
                requested
                | {"method": formats.plain_cell(name)}
                | {key: method.get(key) for key in ("nll", "kl", "perplexity", "net_keep_rate")}
                | {f"spend_{axis}": spend.get(axis) for axis in SHORT_AXES}
                | {key: method.get(key) for key in _READ}
                | {key: paired[key] for key in _PAIRED if key in paired}
            )
