"""The documents as a site: it builds without a warning and needs nothing from other servers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import sol_core

ROOT = Path(__file__).resolve().parents[1]
# What a browser fetches by itself: not links that a reader follows.
FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]*\bsrc=\"(https?:[^\"]*)"
    r"|<link[^>]*\brel=\"(?:stylesheet|preconnect|icon|preload)\"[^>]*\bhref=\"(https?:[^\"]*)"
)


def test_the_site_builds_strictly_and_is_complete_in_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    assert len(pages) > 15
    assert {path: found for path, text in pages.items() if (found := FETCHED.findall(text))} == {}
    styles = [path.read_text("utf-8") for path in tmp_path.rglob("*.css")]
    assert not any(re.search(r"url\(\"?https?:|@import", text) for text in styles)
    names = set(sol_core.__all__) - {"__version__"}
    assert {
        name for name in names if f'id="sol_core.{name}"' not in pages[tmp_path / "api/index.html"]
    } == set()
