"""The glossary: every term that a page uses is explained, and every one explained is used."""

from __future__ import annotations

import re
from pathlib import Path

from app.glossary import glossary_head, terms

APP = Path(__file__).resolve().parents[2] / "app"
TERM = re.compile(r"\[\[([a-z][a-z -]*)(?:\|[^\]\[]+)?\]\]")


def used() -> set[str]:
    scripts = [*APP.glob("*/assets/*.js")]
    assert len(scripts) > 40
    return {key for path in scripts for key in TERM.findall(path.read_text("utf-8"))}


def test_every_term_used_is_explained() -> None:
    assert used() - set(terms()) == set()


def test_every_explained_term_is_used_somewhere() -> None:
    assert set(terms()) - used() == set()


def test_the_head_cannot_be_left_by_a_term() -> None:
    head = glossary_head()
    table = head.split("</script>", 1)[0]
    assert "<" not in table.removeprefix('<script type="application/json" id="sol-terms">')
    assert head.count("</script>") == 2
