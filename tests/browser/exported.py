"""How tests look at exported pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

__all__ = ["offline"]


def offline(chromium: Browser, file: Path, **options: Any) -> tuple[Page, list[str]]:
    """An exported page opened from its file without a network, and what its console says."""
    page = chromium.new_context(offline=True, **options).new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text))
    page.goto(file.as_uri())
    return page, problems
