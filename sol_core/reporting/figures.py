"""Shows results in notebooks: as parts of the page, as tables, and as figures.

Imports are lazy. The page's parts come from the package ``app`` beside this one, or inside it in a
wheel; they need no server.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from kernels import __name__ as kernels_name
from sol_core.errors import ConfigError


class Line(NamedTuple):
    """A line of a panel; ``low`` and ``high`` are interval ends, or empty."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Panel(NamedTuple):
    """A pair of axes."""

    x_title: str
    y_title: str
    lines: Sequence[Line]


def framed(
    kind: str, text: str, model: str, config: dict[str, Any], events: list[dict[str, Any]]
) -> str:
    """Return a run as HTML for a notebook, from ``app/sharing/html_page.py``."""
    beside = kernels_name.removesuffix("kernels")
    document = import_module(f"{beside}app.sharing.html_page")
    return str(document.notebook_html(kind, text, model, config, events))


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table of escaped texts."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def plot(panels: Sequence[Panel]) -> Any:
    """Plot panels below each other with matplotlib, or with plotly if only that is installed.

    Raises: ConfigError if neither is installed.
    """
    if find_spec("matplotlib"):
        return _by_matplotlib(panels)
    if find_spec("plotly"):
        return _by_plotly(panels)
    raise ConfigError("plot() needs matplotlib or plotly: pip install matplotlib")


def _by_matplotlib(panels: Sequence[Panel]) -> Any:
    pyplot = import_module("matplotlib.pyplot")  # registers its display in notebooks
    figure, axes = pyplot.subplots(
        len(panels), squeeze=False, figsize=(8, 2.6 * len(panels)), layout="constrained"
    )
    pyplot.close(figure)  # else a notebook shows it twice
    for (ax,), panel in zip(axes, panels, strict=True):
        for line in panel.lines:
            ax.plot(line.x, line.y, marker=".", label=line.name)
            if line.low:
                ax.fill_between(line.x, line.low, line.high, alpha=0.2)
        ax.set(xlabel=panel.x_title, ylabel=panel.y_title)
        ax.legend()
    return figure


def _by_plotly(panels: Sequence[Panel]) -> Any:
    figure = import_module("plotly.subplots").make_subplots(rows=len(panels), cols=1)
    for row, panel in enumerate(panels, 1):
        how = {"mode": "lines+markers", "row": row, "col": 1}
        for line in panel.lines:
            bars = None
            if line.low:
                pairs = zip(line.y, line.low, line.high, strict=True)
                ends = [(high - (y or 0.0), (y or 0.0) - low) for y, low, high in pairs]
                bars = {"array": [up for up, _ in ends], "arrayminus": [down for _, down in ends]}
            figure.add_scatter(x=line.x, y=line.y, name=line.name, error_y=bars, **how)
        figure.update_xaxes(title_text=panel.x_title, row=row, col=1)
        figure.update_yaxes(title_text=panel.y_title, row=row, col=1)
    return figure.update_layout(height=60 + 260 * len(panels))
