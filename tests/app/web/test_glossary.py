"""The glossary: every term that a page uses is explained, and every one explained is used."""

from __future__ import annotations

import re

from app.web.assets import terms
from app.web.modules import JS

TERM = re.compile(r"\[\[([a-z][a-z -]*)(?:\|[^\]\[]+)?\]\]")


def used() -> set[str]:
    scripts = [*JS.rglob("*.js")]
    assert len(scripts) > 40
    return {key for path in scripts for key in TERM.findall(path.read_text("utf-8"))}


def test_every_term_used_is_explained() -> None:
    assert used() - set(terms()) == set()


def test_every_explained_term_is_used_somewhere() -> None:
    assert set(terms()) - used() == set()
