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

from app.glossary import glossary_head
from app.theme import colour_css
from sol_core.actions import ActionGrid

__all__ = [
    "axis_limits",
    "page_head",
    "page_script",
    "plotly_path",
    "plotly_url",
    "style_sheet",
]

_STYLE_SHEETS = (
    ("app.explore", "base.css"),
    ("app.explore", "controls.css"),
    ("app.explore", "stage.css"),
    ("app.explore", "costs.css"),
    ("app.explore", "tokens.css"),
    ("app.explore", "lens.css"),
    ("app.compare", "compare.css"),
    ("app.inspect", "inspect.css"),
    ("app.history", "history.css"),
    ("app.train", "jobs.css"),
    ("app.train", "train.css"),
    ("app.evaluate", "evaluate.css"),
    ("app.policies", "policies.css"),
    ("app.learn", "learn.css"),
    ("app.glossary", "glossary.css"),
)
# Where a page's scripts are looked for after its own folder.
_SHARED = ("app.explore", "app.train", "app.inspect", "app.compare", "app.evaluate")


def page_script(package: str, names: tuple[str, ...], constants: dict[str, Any]) -> str:
    """The body for ``js_on_load``: ``const PAGE = …`` and the named files of ``package``.

    Args:
        package: its ``assets`` folder is read first, then those of ``app.explore`` (parts of
            every page), ``app.train`` (of the pages with jobs), ``app.inspect``,
            ``app.compare`` and ``app.evaluate`` (of exported pages).
    """
    page = json.dumps(constants, ensure_ascii=True).replace("</", "<\\/")
    sources = "\n".join(_asset(package, name) for name in names)
    return f'"use strict";\nconst PAGE = {page};\n{sources}'


def style_sheet(package: str, names: tuple[str, ...]) -> str:
    """The named style sheets one after another, found as ``page_script`` finds scripts."""
    return "\n".join(_asset(package, name) for name in names)


def page_head() -> str:
    """The style sheet and the glossary of all pages, for ``launch(head=…)``.

    ``launch(css=…)`` rewrites selectors, and does not get ``:is()`` and ``@media`` right.
    """
    sheets = [colour_css(), *(_asset(package, name) for package, name in _STYLE_SHEETS)]
    return "<style>\n" + "\n".join(sheets) + "\n</style>\n" + glossary_head()


@cache
def plotly_path() -> Path:
    """plotly.js as the plotly package carries it, so that charts work without a network."""
    return Path(str(files("plotly") / "package_data" / "plotly.min.js"))


def plotly_url() -> str:
    """Where the page loads plotly.js from: this server."""
    return f"gradio_api/file={plotly_path().as_posix()}"


def axis_limits() -> dict[str, list[float]]:
    """Lowest and highest budget of each axis of the default grid, as the page shows them."""
    grid = ActionGrid()
    return {
        "keep": [grid.keep_fractions[0] * 100, 100],
        "channels": [grid.channel_keep_ratios[0] * 100, 100],
        "bits": [grid.bit_widths[0], grid.bit_widths[-1]],
    }


def _asset(package: str, name: str) -> str:
    places = [files(home) / "assets" / name for home in (package, *_SHARED)]
    source = next((place for place in places if place.is_file()), places[0])
    return source.read_text(encoding="utf-8")
