"""The what-if panel, over the real engine with a tiny model: curves, keyboard, tables, errors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

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


def tab_to(page: Page, goal: Locator, key: str = "Tab") -> None:
    """Press the key until the goal has the focus, as somebody without a pointer does."""
    for _ in range(60):
        if goal.evaluate("(node) => node === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"not reached by {key}")


def panel(visitor: Visitor) -> Locator:
    return visitor.page.get_by_role("region", name="What if?")


def test_a_click_shows_three_curves_and_what_followed(server: Server, visit: Visit) -> None:
    visitor = finished(server, visit)
    expect(panel(visitor)).to_be_hidden()
    visitor.tokens.nth(5).click()
    expect(panel(visitor)).to_contain_text("token 6")
    plots = panel(visitor).get_by_role("slider")
    expect(plots).to_have_count(3, timeout=WARM_UP_MS)
    assert [plot.get_attribute("aria-valuemax") for plot in plots.all()] == ["11", "15", "12"]
    for plot in plots.all():
        expect(plot).to_have_attribute(
            "aria-valuetext", re.compile(r"\(taken\): KL .*surprisal \d")
        )
        assert plot.locator(".sol-lens-line").count() == 2
    rows = panel(visitor).locator(".sol-heat-table tbody tr")
    expect(rows).to_have_count(4)
    assert rows.first.locator("td").count() == 16 + 1
    expect(panel(visitor)).not_to_contain_text("Replayed with")

    visitor.tokens.nth(TOKENS - 1).click()
    expect(panel(visitor)).to_contain_text(f"token {TOKENS}")
    expect(panel(visitor)).to_contain_text("Nothing of this step reaches a later token")
    panel(visitor).get_by_role("button", name="Close").click()
    expect(panel(visitor)).to_be_hidden()


def test_the_panel_is_reached_and_read_with_the_keyboard(server: Server, visit: Visit) -> None:
    visitor = finished(server, visit)
    visitor.tokens.first.focus()
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.keyboard.press("Enter")
    expect(panel(visitor)).to_contain_text("token 2")
    plot = panel(visitor).get_by_role("slider").first
    expect(plot).to_be_visible(timeout=WARM_UP_MS)
    plot.focus()
    visitor.page.keyboard.press("Home")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("^5 %"))
    visitor.page.keyboard.press("ArrowRight")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("^10 %"))
    expect(panel(visitor).locator(".sol-lens-readout").first).to_contain_text("10 %")


def test_the_joint_grid_is_computed_when_it_is_opened(server: Server, visit: Visit) -> None:
    visitor = finished(server, visit)
    visitor.tokens.nth(8).click()
    panel(visitor).locator("summary", has_text="Joint grid").click()
    cells = panel(visitor).locator(".is-plane .sol-heat")
    expect(cells).to_have_count(11 * 15, timeout=WARM_UP_MS)
    expect(panel(visitor).locator(".is-plane .is-taken")).to_have_count(1)
    panel(visitor).get_by_label("At", exact=True).select_option("5")
    expect(panel(visitor).locator(".is-plane .is-taken")).to_have_count(0)


def test_generate_look_at_a_token_ask_what_if_and_export_by_keyboard_alone(
    server: Server, visit: Visit, chromium: Browser, tmp_path: Path
) -> None:
    visitor = visit(server)
    page, press = visitor.page, visitor.page.keyboard.press
    visitor.prompt.focus()
    press("ControlOrMeta+a")
    page.keyboard.type("The keeper of the light")
    tab_to(page, page.get_by_role("radio", name="Static", exact=True))
    random = page.get_by_role("radio", name="Random", exact=True)
    for _ in range(6):
        if random.is_checked():
            break
        press("ArrowRight")
    expect(random).to_be_checked()
    tab_to(page, page.get_by_text("Advanced", exact=True))
    press("Enter")
    tab_to(page, page.get_by_label("Max new tokens", exact=True))
    press("ControlOrMeta+a")
    page.keyboard.type(str(TOKENS))
    tab_to(page, page.get_by_role("button", name="Generate"), "Shift+Tab")
    press("Enter")
    expect(page.locator(".sol-status .sol-state")).to_have_text("Finished", timeout=WARM_UP_MS)
    tab_to(page, visitor.tokens.first)
    press("ArrowRight")
    press("ArrowRight")
    expect(visitor.card).to_contain_text("token 3")
    press("Enter")
    expect(panel(visitor).get_by_role("slider")).to_have_count(3, timeout=WARM_UP_MS)
    expect(visitor.card).to_be_hidden()  # what if has its place


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
