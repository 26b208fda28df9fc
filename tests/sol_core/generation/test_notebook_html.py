"""Results in notebooks: coloured by spend, and text stays text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from sol_core import Action, Budget, Score
from sol_core.generation.finished import FULL_STRENGTH, coloured_tokens

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</span></div><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "&lt;b&gt;",
    "\ud800 half",
    "\u202eabc",
    "שלום",
]


class _Reader(HTMLParser):
    """Elements, their attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_whatever_tokens_hold_is_shown_as_text() -> None:
    made = coloured_tokens(HOSTILE, [Action(0.5)] * len(HOSTILE))
    reader = _Reader()
    reader.feed(made.encode("utf-8").decode("utf-8"))
    assert set(reader.tags) == {"div", "span", "small"}
    assert reader.tags.count("span") == len(HOSTILE)
    assert reader.attributes == {"dir", "style", "title"}
    assert reader.text.startswith("".join(HOSTILE).replace("\ud800", "\N{REPLACEMENT CHARACTER}"))
    assert "unicode-bidi: isolate" in made, "a mark of direction ends with the text"


def test_colours_span_the_runs_own_spends_and_little_difference_is_pale() -> None:
    def strengths(*keeps: float) -> list[float]:
        made = coloured_tokens(["a"] * len(keeps), [Action(keep) for keep in keeps])
        return [float(found) for found in re.findall(r"rgba\(230, 150, 0, ([\d.]+)\)", made)]

    assert strengths(0.1, 0.55, 1.0) == pytest.approx(
        [0, FULL_STRENGTH / 2, FULL_STRENGTH], abs=0.01
    )
    assert strengths(0.5, 0.5) == [0, 0]
    assert max(strengths(0.5, 0.53)) < FULL_STRENGTH / 4
    assert "10 % attention · 100 % MLP · 16 bits" in coloured_tokens(["a"], [Action(0.1)])
    assert coloured_tokens([], []).startswith("<div")


def test_a_score_is_a_table_of_its_means() -> None:
    made = Score((1, 2), (Action(0.5, 0.7, 8), Action()), (1.0, 3.0))._repr_html_()
    reader = _Reader()
    reader.feed(made)
    assert "nats per token2.0000" in reader.text
    assert "perplexity7.39" in reader.text
    assert "75 % attention · 85 % MLP · 12 bits" in reader.text
    assert Score((1,), (Action(),), (1.0,)).spend == Budget()
