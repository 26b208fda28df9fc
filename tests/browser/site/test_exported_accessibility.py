"""axe over every kind of exported page, as its own file, in both themes and on a narrow screen."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from app.lens.report import Look
from app.sharing import export
from sol_core.actions import AXES, DENSE, Action, ActionGrid
from storage import open_store
from tests.browser.axe import violations
from tests.browser.exported import offline
from tests.support.comparison_samples import save_pair
from tests.support.inspection_samples import save_inspection

pytestmark = pytest.mark.browser
WORDS = tuple(
    ["The", "keeper", "<b>", "of", "the", "light", "wrote:", "12", "boats", "came", "home", "."]
)
AT, BITS = 5, 8  # the token that the lens looks at; of the joint grid


def row(action: Action, of_dense: float) -> dict[str, Any]:
    """A lens row that is the worse the less of dense it spends."""
    return {"action": asdict(action), "nll": 3 - of_dense, "kl": 1 - of_dense, "entropy": 2.0}


def look_into(event: dict[str, Any]) -> dict[str, Any]:
    """What a model might have seen in a token, with a joint grid."""
    grid, taken = ActionGrid(), Action(**event["action"])
    axes = [
        [row(Action(**asdict(taken) | {axis: level}), level / levels[-1]) for level in levels]
        for axis, levels in zip(AXES, grid.levels(), strict=True)
    ]
    following = len(WORDS) - AT - 1
    change = {"nll_change": [0.01, -0.4, 0.3, *[0.0] * (following - 3)]}
    trails = [
        {"name": name, "action": asdict(taken), "kl": [0.5] * following, **change}
        for name in ("taken", *AXES)
    ]
    view = {"index": AT, "taken": row(taken, 0.5), "dense": row(DENSE, 1.0)}
    plane = [
        [row(Action(keep, ratio, BITS), keep * ratio) for ratio in grid.channel_keep_ratios]
        for keep in grid.keep_fractions
    ]
    view |= {"axes": axes, "trails": trails}
    return asdict(Look("fake-model", "float32", view, BITS, plane))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An exported page of every kind."""
    folder = tmp_path_factory.mktemp("pages")
    with open_store(folder / "sol.sqlite3") as store:
        pair = save_pair(store, WORDS, (*WORDS[:4], "a", *WORDS[5:]))
        first = pair.split(",")[0]
        store.looks.save(first, AT, None, look_into(store.runs.events(first)[AT]))
        things = {
            "run": first,
            "comparison": pair,
            "inspection": save_inspection(store, WORDS),
            "lens": f"{first}:{AT}::{BITS}",
        }
        for kind, thing in things.items():
            page = export(store, kind, thing, "html").text
            (folder / f"{kind}.html").write_text(page, encoding="utf-8")
    return {kind: folder / f"{kind}.html" for kind in things}


def open_everything(page: Page) -> None:
    """Axe sees only what is open: a selection, a card, the settings, the joint grid."""
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    page.locator(".sol-token[role=option]").nth(2).focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(300)


@pytest.mark.parametrize("kind", ["run", "inspection", "comparison", "lens"])
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
