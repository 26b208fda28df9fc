"""A run as one HTML file that explains itself: the page's own token view, offline.

Scripts and style sheets are the very files of the page, put into the document; charts are drawn
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
from app.run_views import stored_view
from app.theme import follow_system_css
from app.theme_colours import NUM_BINS
from app.views import SCHEDULE_LABELS, page_row
from storage import RunRecord

__all__ = ["page_of_run"]

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
    "svg_chart.js",
    "parts.js",
    "page_parts.js",
    "status_line.js",
    "status.js",
    "shared_run.js",
)
_STYLES = ("base.css", "stage.css", "costs.css", "controls.css", "tokens.css", "shared.css")

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


def page_of_run(record: RunRecord, events: list[dict[str, Any]]) -> str:
    """The document; no byte of it is fetched from elsewhere."""
    view = stored_view(record, [], 0) | {"rows": [page_row(event) for event in events]}
    constants = {"numBins": NUM_BINS, "limits": axis_limits(), "schedules": SCHEDULE_LABELS}
    script = f"(() => {{\n{page_script('app.sharing', _SCRIPTS, constants)}\n}})();"
    return _PAGE.format(
        policy=_security_policy(script),
        title=html.escape(f"{record.title} · SOL Explorer"),
        style=follow_system_css() + "\n" + style_sheet("app.sharing", _STYLES),
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
