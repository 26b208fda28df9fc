"""axe over every kind of exported page, as its own file, in both themes and on a narrow screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from app.sharing import export
from storage import open_store
from tests.browser.axe import violations
from tests.browser.exported import offline
from tests.support.comparison_samples import save_pair
from tests.support.inspection_samples import save_inspection

pytestmark = pytest.mark.browser
WORDS = tuple(
    ["The", "keeper", "<b>", "of", "the", "light", "wrote:", "12", "boats", "came", "home", "."]
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An exported page of every kind."""
    folder = tmp_path_factory.mktemp("pages")
    with open_store(folder / "sol.sqlite3") as store:
        pair = save_pair(store, WORDS, (*WORDS[:4], "a", *WORDS[5:]))
        first = pair.split(",")[0]
        things = {
            "run": first,
            "comparison": pair,
            "inspection": save_inspection(store, WORDS),
        }
        for kind, thing in things.items():
            page = export(store, kind, thing, "html").text
            (folder / f"{kind}.html").write_text(page, encoding="utf-8")
    return {kind: folder / f"{kind}.html" for kind in things}


def open_everything(page: Page) -> None:
    """Axe sees only what is open: a selection, a card, the settings."""
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    page.locator(".sol-token[role=option]").nth(2).focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(300)


@pytest.mark.parametrize("kind", ["run", "inspection", "comparison"])
@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
        {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
    ],
    ids=["light", "dark and narrow"],
)
def test_axe_finds_nothing_on_an_exported_page(
    chromium: Browser, files: dict[str, Path], kind: str, options: Any
) -> None:
    page, problems = offline(chromium, files[kind], reduced_motion="reduce", **options)
    page.locator(".sol-token[role=option]").first.wait_for()
    found = list(violations(page))
    open_everything(page)
    found += violations(page)
    assert found == [], "\n".join(found)
    assert problems == []
    page.context.close()
