"""One result as an HTML page of its own, or in a notebook: the pages' own parts, offline.

Charts are SVG, since plotly alone would be ten times the file. The data is compressed, and a
content security policy names the one script by its hash, so that nothing else can run. Nothing here
needs a server or a database: the library shows its results by it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from datetime import UTC, datetime
from typing import Any

from app.formats import json_safe
from app.web.assets import bundle, site_data, style_sheet
from app.web.theme import follow_system_css
from sol_core import __version__
from sol_core.files.paths import whole_characters

PROGRAM = f"sol-explorer {__version__}"  # that writes a document or a page
TITLE_LENGTH = 80
_STYLES = ("base", "stage", "controls", "tokens", "tables")
STYLES_OF = {  # of each kind of run, besides those that every page has
    "run": ("runs/machine", "runs/reading"),
    "inspection": ("inspect", "runs/reading"),
}
_POLICY = (
    "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self' https:; base-uri 'none'; form-action 'none'"
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{program}">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main class="sol-page sol-shared"></main>
<noscript>This page draws itself with JavaScript, which is turned off.</noscript>
{site}
<script type="application/gzip" id="sol-data">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def html_page(title: str, view: dict[str, Any], entry: str, styles: tuple[str, ...] = ()) -> str:
    """A page without a network: ``entry`` of ``js/sharing`` draws the ``view``."""
    script = f"\n{bundle(f'sharing/{entry}.js')}"
    # As gzip in base64 it can stand in a script element, whatever its texts hold.
    data = json.dumps(view, allow_nan=False, separators=(",", ":")).encode("ascii")
    return _PAGE.format(
        policy=_POLICY.format(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
        program=PROGRAM,
        title=html.escape(f"{title} · SOL Explorer"),
        style=f"{follow_system_css()}\n{style_sheet(*_STYLES, *styles, 'shared')}",
        site=site_data({}),
        data=base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii"),
        script=script,
    )


def notebook_html(
    kind: str, text: str, model: str, config: dict[str, Any], events: list[dict[str, Any]]
) -> str:
    """A run in a frame of its own, so that a notebook may show many.

    Args:
        kind: "run" or "inspection".
        text: the prompt, or the text that was inspected.
        events: as JSON: the first one, those of the tokens, the last one.
    """
    first, *rows, last = json_safe(events)
    title = " ".join(text.split())[:TITLE_LENGTH]
    run: dict[str, Any] = {"id": "", "kind": kind, "prompt": text, "title": title, "model": model}
    run |= {"config": json_safe(config), "parent": None, "settings": None}
    view = {"run": run | {"created_at": datetime.now(UTC).isoformat()}, "rows": rows}
    view |= {"prefill": first, "summary": last, "pages": first.get("page_texts", [])}
    view |= {"status": "finished", "error": None, "live": False, "more": False, "look": "notebook"}
    page = whole_characters(html_page(title, view, f"shared_{kind}", STYLES_OF[kind]))
    return (
        f'<iframe srcdoc="{html.escape(page)}" title="{html.escape(title)}" '
        'sandbox="allow-scripts allow-downloads" style="width: 100%; height: 640px; border: 0">'
        "</iframe>"
    )
