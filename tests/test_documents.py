"""The documents as a site: it builds without a warning and needs nothing from other servers."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import sol_core

ROOT = Path(__file__).resolve().parents[1]
# What a browser fetches by itself: not links that a reader follows.
FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]*\bsrc=\"(https?:[^\"]*)"
    r"|<link[^>]*\brel=\"(?:stylesheet|preconnect|icon|preload)\"[^>]*\bhref=\"(https?:[^\"]*)"
)


def _run(module, *arguments, python_path=""):
    environment = os.environ | {"PYTHONPATH": python_path}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_site_builds_strictly_and_is_complete_in_itself(tmp_path):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    tools, site = tmp_path / "tools", tmp_path / "site"
    _run("pip", "install", "--quiet", "--target", tools, *extras["optional-dependencies"]["docs"])
    _run("mkdocs", "build", "--strict", "--quiet", "-d", site, python_path=str(tools))
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    assert len(pages) > 15
    assert {path: found for path, text in pages.items() if (found := FETCHED.findall(text))} == {}
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert not any(re.search(r"url\(\"?https?:|@import", text) for text in styles)
    names = set(sol_core.__all__) - {"__version__"}
    assert {
        name for name in names if f'id="sol_core.{name}"' not in pages[site / "api/index.html"]
    } == set()
