"""The words of this project, each explained in a sentence or two, wherever they appear."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

__all__ = ["glossary_head", "terms"]


@cache
def terms() -> dict[str, dict[str, str]]:
    """Per key, a lower-case word: ``name`` as it is listed, ``text`` that explains it."""
    found: dict[str, dict[str, str]] = json.loads(_read("terms.json"))
    return found


def glossary_head() -> str:
    """For the page's head: the table and the script that shows its entries, once for all tabs."""
    table = json.dumps(terms(), ensure_ascii=True).replace("</", "<\\/")
    return (
        f'<script type="application/json" id="sol-terms">{table}</script>\n'
        f"<script>\n{_read('assets/glossary.js')}\n</script>"
    )


def _read(name: str) -> str:
    return (files("app.glossary") / name).read_text(encoding="utf-8")
