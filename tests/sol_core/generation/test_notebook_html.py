"""Results in notebooks: coloured by spend, and text stays text."""

import re
from html.parser import HTMLParser

import pytest

from sol_core import Action, Score
from sol_core.events import StepCost
from sol_core.generation.finished import FULL_STRENGTH, coloured_tokens

HOSTILE = [
    "<img src=x onerror=alert(1)>", "</span></div><script>alert(1)</script>",
    '" onmouseover="alert(1)', "&lt;b&gt;", "\ud800 half", "\u202eabc", "שלום",
]  # fmt: skip


class _Reader(HTMLParser):
    """Elements, their attributes, and text."""

    def __init__(self):
        super().__init__()
        self.tags = []
        self.attributes = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def test_whatever_tokens_hold_is_shown_as_text():
    keeps = [Action((number + 1) / len(HOSTILE)) for number in range(len(HOSTILE))]
    made = coloured_tokens(HOSTILE, keeps)
    reader = _Reader()
    reader.feed(made.encode("utf-8").decode("utf-8"))
    assert set(reader.tags) == {"div", "span", "small"}
    assert reader.tags.count("span") == len(HOSTILE)
    assert reader.attributes == {"dir", "style", "title"}
    assert reader.text.startswith("".join(HOSTILE).replace("\ud800", "\N{REPLACEMENT CHARACTER}"))
    assert "unicode-bidi: isolate" in made, "a mark of direction ends with the text"
    found = [float(one) for one in re.findall(r"rgba\(230, 150, 0, ([\d.]+)\)", made)]
    assert found == sorted(set(found)), "coloured by spend"
    assert (found[0], found[-1]) == pytest.approx((0, FULL_STRENGTH), abs=0.01)
    costs = (StepCost(mlp_bytes=60.0), StepCost(mlp_bytes=100.0))
    dense = (StepCost(mlp_bytes=100.0),) * 2
    score = Score((1, 2), (Action(0.5, 0.7, 8), Action()), (1.0, 3.0), costs, dense)
    assert "75 % attention · 85 % MLP · 12 bits · 80 % of the bytes" in score._repr_html_()
