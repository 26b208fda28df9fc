"""An HTML file that explains itself: the pages' own parts, offline.

Charts are SVG: plotly alone would be ten times the file. The data is compressed, and a content
security policy names the one script by its hash, so that nothing else can run.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from typing import Any

from app.web.assets import bundle, site_data, style_sheet
from app.web.theme import follow_system_css

_STYLES = ("base", "stage", "controls", "tokens")
_POLICY = (
    "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)

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
        title=html.escape(f"{title} · SOL Explorer"),
        style=f"{follow_system_css()}\n{style_sheet(*_STYLES, *styles, 'shared')}",
        site=site_data({}),
        data=base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii"),
        script=script,
    )
