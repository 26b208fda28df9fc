"""Scripts and style sheets of the pages, read from the package and put together.

There is no build step: the files of a page are plain scripts that share one function's scope,
in the order given here.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from app.theme import colour_css

__all__ = ["page_head", "page_script", "plotly_path"]

_STYLE_SHEETS = (
    ("app.explore", "base.css"),
    ("app.explore", "controls.css"),
    ("app.explore", "stage.css"),
    ("app.explore", "tokens.css"),
    ("app.history", "history.css"),
)


def page_script(package: str, names: tuple[str, ...], constants: dict[str, Any]) -> str:
    """The body for ``js_on_load``: ``const PAGE = …`` and the named files of ``package``.

    Args:
        package: its ``assets`` folder is read first, then that of ``app.explore``.
    """
    page = json.dumps(constants, ensure_ascii=True).replace("</", "<\\/")
    sources = "\n".join(_asset(package, name) for name in names)
    return f'"use strict";\nconst PAGE = {page};\n{sources}'


def page_head() -> str:
    """The style sheet of all pages, for ``launch(head=…)``.

    ``launch(css=…)`` rewrites selectors, and does not get ``:is()`` and ``@media`` right.
    """
    sheets = [colour_css(), *(_asset(package, name) for package, name in _STYLE_SHEETS)]
    return "<style>\n" + "\n".join(sheets) + "\n</style>"


@cache
def plotly_path() -> Path:
    """plotly.js as the plotly package carries it, so that charts work without a network."""
    return Path(str(files("plotly") / "package_data" / "plotly.min.js"))


def _asset(package: str, name: str) -> str:
    own = files(package) / "assets" / name
    source = own if own.is_file() else files("app.explore") / "assets" / name
    return source.read_text(encoding="utf-8")
