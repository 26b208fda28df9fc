"""An HTML file that explains itself: the pages' own parts, offline.

Scripts and style sheets are the very files of the pages, put into the document; charts are drawn
as SVG by a class of its own, because plotly alone would be ten times the file. A content
security policy names the one script by its hash, so that nothing else can run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

from app.page_assets import axis_limits, page_script, style_sheet
from app.theme import follow_system_css
from app.theme_colours import DIFFERENCE_BINS, NUM_BINS
from app.views import SCHEDULE_LABELS

__all__ = ["html_page"]

# What every exported page builds on.
_SCRIPTS = (
    "dom.js",
    "format.js",
    "download.js",
    "token_text.js",
    "tokens.js",
    "card.js",
    "card_policy.js",
    "legend.js",
    "series.js",
    "chart.js",
    "charts.js",
    "svg_chart.js",
    "status_line.js",
    "page_parts.js",
    "shared_parts.js",
)
_STYLES = ("base.css", "stage.css", "controls.css", "tokens.css")

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main class="sol-page sol-shared"></main>
<noscript>This page draws itself with JavaScript, which is turned off.</noscript>
<script type="application/json" id="sol-data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def html_page(
    title: str, view: dict[str, Any], scripts: tuple[str, ...], styles: tuple[str, ...] = ()
) -> str:
    """The document; no byte of it is fetched from elsewhere.

    Args:
        title: of the thing; it may hold anything.
        view: what the scripts find by ``sharedView()``; JSON without NaN.
        scripts: read after those that every page has; the last one draws the page.
        styles: style sheets besides those that every page has.
    """
    constants = {
        "numBins": NUM_BINS,
        "differenceBins": DIFFERENCE_BINS,
        "limits": axis_limits(),
        "schedules": SCHEDULE_LABELS,
    }
    source = page_script("app.sharing", (*_SCRIPTS, *scripts), constants)
    script = f"(() => {{\n{source}\n}})();"
    sheets = style_sheet("app.sharing", (*_STYLES, *styles, "shared.css"))
    return _PAGE.format(
        policy=_security_policy(script),
        title=html.escape(f"{title} · SOL Explorer"),
        style=follow_system_css() + "\n" + sheets,
        data=_embedded(view),
        script=script,
    )


def _embedded(value: dict[str, Any]) -> str:
    """JSON that can stand in a script element: nothing in it ends that or opens a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _security_policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
