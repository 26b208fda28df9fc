"""Coloured tokens, and hostile ones."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cli.generation_report import until_stop
from app.cli.terminal import colour_depth, escape
from sol_core.generation.sampling import TextUntilStop
from tests.support.fake_engine import make_token


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "24bit"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
        ({"TERM": "xterm", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
    ],
)
def test_colour_depth(variables, expected):
    assert colour_depth(Terminal(), variables) == expected
    assert colour_depth(io.StringIO(), variables) == "none"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb\x08\x7f", "a\\rb\\x08\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("line\nand\ttab naïve 😀 עברית", "line\nand\ttab naïve 😀 עברית"),
    ],
)
def test_escape(hostile, shown):
    assert escape(hostile) == shown


@settings(max_examples=200)
@given(
    st.lists(st.text("abE\n", max_size=3), max_size=8),
    st.lists(st.text("abE\n", min_size=1, max_size=4), max_size=2),
)
def test_text_that_is_printed_is_the_text_of_the_json(pieces, stops):
    visible, made = TextUntilStop(stops), []
    for index, piece in enumerate(pieces):
        made.append(make_token(index, piece))
        if visible.add(piece):
            break
    printed = list(until_stop(made, stops))
    assert "".join(token.text for token in printed) == visible.text
    assert [token.token_id for token in printed] == [one.token_id for one in made]


def test_text_is_printed_as_soon_as_it_cannot_be_part_of_a_stop_string():
    told = iter([make_token(0, "abc"), make_token(1, "de"), make_token(2, "xx")])
    shown = until_stop(told, ["dx?"])
    assert next(shown).text == "abc"
    assert next(told).text == "xx"
