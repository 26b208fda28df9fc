"""The words of this project, each explained in a sentence or two, wherever they appear.

Its table is ``glossary.json``. Where a word is shown is decided by the pages' scripts.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

__all__ = ["terms"]


@cache
def terms() -> dict[str, dict[str, str]]:
    """Per key, a lower-case word: ``name`` as it is listed, ``text`` that explains it."""
    found: dict[str, dict[str, str]] = json.loads(
        (files("app.web.glossary") / "terms.json").read_text(encoding="utf-8")
    )
    return found
