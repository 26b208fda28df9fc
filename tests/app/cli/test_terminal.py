"""Coloured tokens, and hostile ones."""

from __future__ import annotations

import io

import pytest

from app.cli.terminal import COLOUR_AXES, ColourDepth, colour_depth, escape, paint, share
from sol_core.actions import DENSE, Action


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "24bit"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "xterm"}, "none"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
        ({"TERM": "xterm", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
        ({"TERM": "xterm", "COLORTERM": "truecolor", "NO_COLOR": ""}, "24bit"),
        ({}, "none"),
    ],
)
def test_colour_depth(variables: dict[str, str], expected: ColourDepth) -> None:
    assert colour_depth(Terminal(), variables) == expected
    assert colour_depth(io.StringIO(), variables) == "none"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\x08\x7f", "a\\rb\\x08\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("line\nand\ttab", "line\nand\ttab"),
        ("naïve 😀 עברית", "naïve 😀 עברית"),
        ("", ""),
    ],
)
def test_escape(hostile: str, shown: str) -> None:
    assert escape(hostile) == shown


def test_paint_resets_before_every_newline() -> None:
    assert paint("x", 0.5, "none") == "x"
    painted = paint("a\n\nb", 1.0, "24bit")
    lines = painted.split("\n")
    assert [line.endswith("\x1b[0m") or not line for line in lines] == [True, True, True]
    assert lines[1] == ""
    assert lines[0].startswith("\x1b[48;2;253;231;37;38;2;0;0;0m")  # the bright end
    assert "38;2;255;255;255" in paint("a", 0.0, "24bit")
    assert paint("a", 0.0, "256").startswith("\x1b[48;5;")
    assert "\x1b]" not in paint("\x1b]0;x", 0.3, "24bit")


def test_share_is_dense_at_one() -> None:
    for axis in COLOUR_AXES:
        assert share(axis, DENSE, surprisal=99.0) == 1.0
    action = Action(0.2, 0.4, 8)
    assert [share(axis, action, 0.0) for axis in ("keep", "channels", "bits", "surprisal")] == [
        0.2,
        0.4,
        0.5,
        0.0,
    ]
    assert share("spend", action, 0.0) == pytest.approx((0.2 + 0.4 + 0.5) / 3)
