"""Head of the page: style sheets, constants of the whole site, the glossary."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from app.formats.plain_json import SCHEDULE_LABELS
from app.web.modules import in_order, module_url
from app.web.theme import DIFFERENCE_BINS, NUM_BINS, colour_css
from sol_core.actions import AXES, DEFAULT_GRID, GRIDS

_CSS = Path(__file__).with_name("css")
_STYLE_SHEETS = (
    *("base", "controls", "stage", "runs/costs", "runs/machine", "tokens", "runs/dock"),
    *("runs/reading", "lens", "compare", "inspect", "history", "jobs", "train", "evaluate"),
    *("policies", "learn/lessons"),
)
_AXIS_FIELDS = (
    *("field", "short", "key", "name", "title", "noun", "term", "label", "hint", "unit", "scale"),
)


def style_sheet(*names: str) -> str:
    return "\n".join((_CSS / f"{name}.css").read_text(encoding="utf-8") for name in names)


def site_data(constants: dict[str, Any]) -> str:
    """Return the element that ``js/shared/dom.js`` reads: what does not depend on the page."""
    shared = {
        "numBins": NUM_BINS,
        "differenceBins": DIFFERENCE_BINS,
        "axes": page_axes(),
        "schedules": SCHEDULE_LABELS,
    }
    return _data_element("sol-site", shared | constants)


def page_head(constants: dict[str, Any]) -> str:
    """Style sheets, constants and glossary of all pages, for ``launch(head=…)``.

    The modules of the first tab are announced, so that they come while Gradio's own load.
    ``launch(css=…)`` rewrites selectors, and does not get ``:is()`` and ``@media`` right.
    """
    first = in_order("header.js", "explore/explore.js")
    plotly = f"gradio_api/file={plotly_path().as_posix()}"
    parts = [
        f"<style>\n{colour_css()}\n{style_sheet(*_STYLE_SHEETS)}\n</style>",
        site_data(constants | {"plotly": plotly}),
        _data_element("sol-terms", terms()),
        *(f'<link rel="modulepreload" href="{module_url(name)}">' for name in first),
    ]
    return "\n".join(parts)


@cache
def terms() -> dict[str, dict[str, str]]:
    """The glossary: per key, a lower-case word, its listed ``name`` and the ``text`` about it."""
    table = Path(__file__).parent / "glossary" / "terms.json"
    return dict(json.loads(table.read_text(encoding="utf-8")))


@cache
def plotly_path() -> Path:
    """plotly.js as the plotly package carries it, so that charts work without a network."""
    return Path(str(files("plotly") / "package_data" / "plotly.min.js"))


def page_axes() -> list[dict[str, Any]]:
    """The axes, each a ``DeclaredAxis`` of ``js/types.d.ts``, with the ends of the default grid."""
    grid = GRIDS[DEFAULT_GRID]
    return [
        {name: getattr(axis, name) for name in _AXIS_FIELDS}
        | {
            "levels": axis.levels_field,
            "dense": axis.dense,
            "min": levels[0] * axis.scale,
            "max": levels[-1] * axis.scale,
            "step": 0.5 if axis.whole else 1,
        }
        for axis, levels in zip(AXES, grid.levels(), strict=True)
    ]


def _data_element(name: str, value: Any) -> str:
    """Return JSON in a script element that nothing in it can end."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'
