"""The what-if panel, over the real engine with a tiny model: curves, keyboard, tables, errors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from app.host.errors import AppError
from app.host.paths import DataDir
from app.web.services import engine_generate
from tests.browser.conftest import WARM_UP_MS, Server, Visitor
from tests.support.fake_engine import FakeEngine
from tests.support.tiny_language_model import make_language_model

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
TOKENS = 24


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> Server:
    model = dataclasses.replace(make_language_model(), name="fake-model")
    return serve(engine_generate(DataDir(tmp_path)), load=lambda on_progress: model)


def finished(server: Server, visit: Visit, **options: Any) -> Visitor:
    """On a finished run that a tiny random model made."""
    visitor = visit(server, **options)
    visitor.page.get_by_role("radio", name="Random").check(force=True)
    visitor.set_advanced("Max new tokens", str(TOKENS))
    visitor.use_default_mechanisms()
    visitor.page.get_by_label("Ignore end of text").check(force=True)
    visitor.generate("The keeper of the light wrote down")
    visitor.expect_state("Finished", WARM_UP_MS)
    expect(visitor.tokens).to_have_count(TOKENS)
    return visitor


def panel(visitor: Visitor) -> Locator:
    return visitor.page.get_by_role("region", name="What if?")


def test_a_click_shows_three_curves_and_what_followed(server: Server, visit: Visit) -> None:
    visitor = finished(server, visit)
    expect(panel(visitor)).to_be_hidden()
    visitor.tokens.nth(5).click()
    expect(panel(visitor)).to_contain_text("token 6")
    plots = panel(visitor).get_by_role("slider")
    expect(plots).to_have_count(3, timeout=WARM_UP_MS)
    for plot, levels in zip(plots.all(), ("11", "15", "12"), strict=True):
        assert plot.get_attribute("aria-valuemax") == levels
        spoken = re.compile(r"\(taken\): KL .*surprisal \d")
        expect(plot).to_have_attribute("aria-valuetext", spoken)
        assert plot.locator(".sol-lens-line").count() == 2
    rows = panel(visitor).locator(".sol-heat-table tbody tr")
    expect(rows).to_have_count(4)
    assert rows.first.locator("td").count() == 16 + 1
    panel(visitor).locator("summary", has_text="Joint grid").click()
    cells = panel(visitor).locator(".is-plane .sol-heat")
    expect(cells).to_have_count(11 * 15, timeout=WARM_UP_MS)
    expect(panel(visitor).locator(".is-plane .is-taken")).to_have_count(1)
    panel(visitor).get_by_label("At", exact=True).select_option("5")
    expect(panel(visitor).locator(".is-plane .is-taken")).to_have_count(0)

    visitor.tokens.nth(TOKENS - 1).click()
    expect(panel(visitor)).to_contain_text(f"token {TOKENS}")
    expect(panel(visitor)).to_contain_text("Nothing of this step reaches a later token")
    panel(visitor).get_by_role("button", name="Close").click()
    expect(panel(visitor)).to_be_hidden()


def test_what_cannot_be_looked_into_says_why(
    server: Server, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = finished(server, visit)

    def refuse(*_: Any) -> None:
        raise AppError("Not now.")

    with monkeypatch.context() as patch:
        patch.setattr(server.services.runs, "ask", refuse)
        visitor.tokens.nth(3).click()
        expect(panel(visitor).get_by_role("alert")).to_have_text("Not now.")
    panel(visitor).get_by_role("button", name="Try again").click()
    expect(panel(visitor).get_by_role("slider")).to_have_count(3, timeout=WARM_UP_MS)


def test_a_run_that_goes_on_asks_for_patience(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001, pause_at=6)))
    visitor.generate("The lighthouse keeper", max_new_tokens=40)
    expect(visitor.tokens).to_have_count(6)
    visitor.tokens.nth(2).click()
    expect(panel(visitor)).to_contain_text("when the run has ended")
    visitor.page.get_by_role("button", name="Stop").click()
