"""Tokens on a terminal: a background that says what each one cost; no escape sequence gets through.

Model text is hostile: control characters and bidirectional overrides are shown as escapes.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TextIO

from app.web.theme import WHITE, ink, rgb, scale_colour
from sol_core.actions import AXES

ColourDepth = Literal["none", "256", "24bit"]

RESET = "\x1b[0m"
LEGEND_STEPS = 16
NAME_WIDTH = 24  # characters of a record's names
# Characters that reorder or end lines without being in Unicode's control category.
LAYOUT_CHARACTERS = frozenset(
    "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def colour_depth(stream: TextIO, variables: Mapping[str, str] = os.environ) -> ColourDepth:
    """Return the number of colours the stream shows; none for files, pipes and under NO_COLOR."""
    terminal = variables.get("TERM", "")
    if variables.get("NO_COLOR") or not stream.isatty() or terminal in ("", "dumb"):
        return "none"
    if variables.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "24bit"
    return "256" if "256color" in terminal else "none"


def escape(text: str) -> str:
    """Visible form of everything that could drive a terminal; newline and tab stay."""
    return "".join(
        char if char in "\n\t" or not _is_unsafe(char) else ascii(char)[1:-1] for char in text
    )


def paint(text: str, value: float, depth: ColourDepth) -> str:
    """Escaped ``text`` on the background for ``value`` in [0, 1]; a newline would fill its line."""
    safe = escape(text)
    if depth == "none":
        return safe
    colour = scale_colour(value)
    red, green, blue = rgb(colour)
    dark = ink(colour) == WHITE
    if depth == "24bit":
        style = f"\x1b[48;2;{red};{green};{blue};38;2;{'255;255;255' if dark else '0;0;0'}m"
    else:
        steps = (round(channel / 255 * 5) for channel in (red, green, blue))
        cube = 16 + sum(step * weight for step, weight in zip(steps, (36, 6, 1), strict=True))
        style = f"\x1b[48;5;{cube};38;5;{231 if dark else 16}m"
    return "\n".join(f"{style}{line}{RESET}" if line else "" for line in safe.split("\n"))


def legend(depth: ColourDepth) -> str:
    scale = "".join(paint(" ", step / (LEGEND_STEPS - 1), depth) for step in range(LEGEND_STEPS))
    return f"colour    spend: little {scale} much\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> list[str]:
    """Lines of a table, as wide as their widest cells; ``sides`` has "<" or ">" for each column."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    form = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
    return [form.format(*cells).rstrip() for cells in lines]


def record_text(record: Mapping[str, Any]) -> str:
    """A JSON record as escaped lines: one for each value, and a table where records are alike."""
    return "".join(f"{escape(line)}\n" for line in _record_lines(record))


def _record_lines(record: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in record.items():
        label = f"{path} {name.replace('_', ' ')}".strip()
        if rows := _alike(value):
            names = {axis.field: axis.noun for axis in AXES}
            head = [names.get(column, column.replace("_", " ")) for column in rows[0]]
            cells = [[_value_text(cell) for cell in row.values()] for row in rows]
            yield from ("", label, *table(head, cells, "<" + ">" * (len(head) - 1)), "")
        elif isinstance(value, Mapping):
            yield from _record_lines(value, label)
        elif value is not None:
            for item in value if isinstance(value, (list, tuple)) else [value]:
                yield f"{label:{NAME_WIDTH}} {_value_text(item)}"
                label = ""  # only the first line of several has the name


def _alike(value: Any) -> list[dict[str, Any]]:
    """Rows of a table: records of the same fields, in a list or by name; else none."""
    if isinstance(value, Mapping):
        value = [{"": name, **row} for name, row in value.items() if isinstance(row, Mapping)]
    rows = value if isinstance(value, list) else []
    is_table = all(isinstance(row, Mapping) and row.keys() == rows[0].keys() for row in rows)
    return rows if is_table and len(rows) > 0 else []


def _value_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _is_unsafe(char: str) -> bool:
    return char in LAYOUT_CHARACTERS or unicodedata.category(char) in ("Cc", "Cs")
