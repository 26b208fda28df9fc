"""CSV files whose cells are safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: such text gets an apostrophe in front."""
    return f"'{text}" if text.startswith(_FORMULA_SIGNS) else text


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]], line_end: str = "\r\n") -> str:
    """A header and the rows, RFC 4180; a column that a row lacks is an empty cell."""
    out = io.StringIO()
    # RFC 4180's line ends, so that a carriage return in a token's text is quoted as well.
    writer = csv.DictWriter(out, columns, restval="", lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
