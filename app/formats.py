"""Records as the page wants them, plain, finite JSON, and as CSV that is safe in a spreadsheet."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sol_core.actions import AXES
from sol_core.config import SCHEDULE_LABELS
from sol_core.reporting.verdict import Verdict, policy_name

_DIGITS = 5
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n")


def finite(value: Any) -> float | None:
    """A number rounded for the page; None for what JSON or a chart cannot show."""
    # A comparison: NaN fails it, and no whole number is too large for it.
    if not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        return None
    return float(f"{value:.{_DIGITS}g}")


def cost_total(cost: dict[str, Any], unit: str) -> float:
    """Sum of a recorded step cost's parts in "flops" or "bytes"."""
    total: float = sum(value for name, value in cost.items() if name.endswith(f"_{unit}"))
    return total


def step_bytes(event: dict[str, Any]) -> tuple[float, float]:
    """Bytes that a recorded token's step read, and those that it reads densely."""
    return event["cost"]["bytes_read"], event["dense_cost"]["bytes_read"]


def bytes_share(steps: Sequence[tuple[float, float]]) -> float | None:
    """Bytes read as a share of the dense ones, of ``step_bytes``; None without any."""
    whole = sum(dense for _, dense in steps)
    return sum(read for read, _ in steps) / whole if whole else None


def rounded(value: Any) -> Any:
    """The same nested value with its fractions as ``finite`` has them."""
    return _with_fractions(value, finite)


def json_safe(value: Any) -> Any:
    """The same nested value with NaN and infinities as None: JSON has no word for them."""
    return _with_fractions(value, lambda number: number if math.isfinite(number) else None)


def _with_fractions(value: Any, change: Callable[[float], float | None]) -> Any:
    if isinstance(value, dict):
        return {key: _with_fractions(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_fractions(item, change) for item in value]
    return change(value) if isinstance(value, float) else value


def verdict_record(verdict: Verdict | None) -> dict[str, str] | None:
    """A verdict as pages draw it; None where nothing was measured."""
    return None if verdict is None else asdict(verdict)


def budget_text(config: dict[str, Any]) -> str:
    """A run's budget in whole per cents: "50 % attention · 70 % MLP · 10 bits", "60 % compute"."""
    schedules = config.get("schedules", [config.get("schedule", {})])
    schedule: dict[str, Any] = schedules[0] if schedules else {"kind": "dense"}
    pages = ", ".join(str(page + 1) for page in config.get("left_out", ()))
    without = [f"without page {pages}"] if pages else []
    budget = schedule.get("budget")
    if schedule.get("kind") == "dense" or budget is None:
        return " · ".join(["100 % compute", *without])
    share = budget.get("bytes_share")
    axes = [axis for axis in AXES if axis.field in budget and (share is None or axis.unit == "bit")]
    words = [] if share is None else [f"{100 * share:.0f} % compute"]
    asked = (axis.text(round(budget[axis.field], 2)) for axis in axes)
    return " · ".join([*words, *asked, *without])


def capital(words: str) -> str:
    """Begin the engine's words as a sentence; the name of a file, a number or a field stays."""
    begins = re.match(r"[a-z]+ (?!must be )", words)
    return words[0].upper() + words[1:] if begins else words


def schedule_label(kind: str, config: dict[str, Any]) -> str:
    """A run's schedule in words; of an inspection all of them."""
    if (schedules := config.get("schedules")) is not None:
        others = [
            _schedule_words(schedule.get("kind", ""), schedule.get("policy"))
            for schedule in schedules
        ]
        return "Inspected: " + ", ".join([SCHEDULE_LABELS["dense"], *others])
    return _schedule_words(kind, config.get("schedule", {}).get("policy"))


def _schedule_words(kind: str, policy: str | None) -> str:
    if kind == "policy" and policy:
        return policy_name(str(policy))
    return SCHEDULE_LABELS.get(kind, "Painted" if kind == "painted" else kind)


def iso(moment: datetime) -> str:
    """ISO 8601 with the offset, which the browser turns into local time."""
    return moment.isoformat(timespec="seconds")


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: such text gets an apostrophe in front."""
    # Spreadsheets of some languages read a full-width sign as the plain one.
    first = unicodedata.normalize("NFKC", text[:1])
    return f"'{text}" if first.startswith(_FORMULA_SIGNS) else text


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]], line_end: str = "\r\n") -> str:
    """A header and the rows, RFC 4180; a column that a row lacks is an empty cell."""
    out = io.StringIO()
    # RFC 4180's line ends, so that a carriage return in a token's text is quoted as well.
    writer = csv.DictWriter(out, columns, restval="", lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
