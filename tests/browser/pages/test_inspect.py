"""Inspect, what if and Compare over the real engine with a tiny model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from app.host.errors import AppError
from app.host.paths import DataDir
from app.web.services import engine_generate
from tests.browser.conftest import WARM_UP_MS, Server, Visitor
from tests.support.fake_engine import FakeEngine
from tests.support.tiny_language_model import make_language_model

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
TEXT = "A <img src=x onerror=alert(1)>\nat ${7*7}."


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> Server:
    model = dataclasses.replace(make_language_model(), name="fake-model")
    return serve(engine_generate(DataDir(tmp_path)), load=lambda on_progress: model)


def tokens(page: Page) -> Locator:
    return page.locator(".sol-inspect .sol-lines .sol-token")


def finished(page: Page) -> None:
    expect(page.locator(".sol-inspect .sol-state")).to_have_text("Finished", timeout=WARM_UP_MS)


def inspected(server: Server, visit: Visit) -> Page:
    """A page on a finished inspection under static and random."""
    page = visit(server).page
    page.get_by_role("tab", name="Inspect").click()
    form = page.get_by_role("form", name="Inspection")
    form.get_by_role("button", name="Code", exact=True).click()
    expect(form.get_by_label("Text", exact=True)).to_have_value(re.compile(r"^def mean"))
    form.get_by_label("Text", exact=True).fill(TEXT)
    form.get_by_label("Schedule 1").select_option("static")
    form.get_by_label("Schedule 2").select_option("random")
    form.get_by_role("button", name="Inspect").click()
    finished(page)
    return page


def test_a_text_is_scored_and_every_list_leads_to_its_token(server: Server, visit: Visit) -> None:
    page = inspected(server, visit)
    room = page.locator(".sol-inspect")
    expect(tokens(page)).to_have_count(len(TEXT) - 1)
    shown = "".join(tokens(page).all_text_contents()).replace("\u00a0", " ").replace("↵", "\n")
    assert shown == TEXT[1:]
    table = page.get_by_role("group", name="Schedules compared")
    expect(table.get_by_role("rowheader")).to_have_text(["Full model", "Static", "Random"])
    page.get_by_role("radio", name="vs static").check(force=True)
    expect(page.locator(".sol-lines [data-difference]")).to_have_count(len(TEXT) - 1)
    page.get_by_role("radio", name="Static", exact=True).check(force=True)
    expect(page.locator(".sol-lines [data-difference]")).to_have_count(0)
    page.get_by_role("radio", name="Random", exact=True).check(force=True)

    last = tokens(page).last
    last.hover()
    expect(room.locator(".sol-reading-caption")).to_contain_text("read")
    page.mouse.move(2, 2)

    report = page.get_by_role("region", name="Difficulty report")
    entry = report.get_by_role("button", name=re.compile(r"^Token \d+: .*surprisal")).first
    number = (entry.get_attribute("aria-label") or "").split(":")[0]
    entry.click()
    focused = room.locator(".sol-token:focus")
    expect(focused).to_have_attribute("aria-label", re.compile(f"^{number}:"))
    card = room.locator(".sol-card")
    expect(card).to_contain_text("In the Static row")
    page.keyboard.press("Enter")
    lens = room.get_by_role("region", name="What if?")
    expect(lens.get_by_role("slider")).to_have_count(3, timeout=WARM_UP_MS)
    page.keyboard.press("Escape")  # the card would lie over the choice
    expect(card).to_be_hidden()
    page.get_by_role("radio", name="Side by side").check(force=True)
    expect(room.get_by_role("listbox")).to_have_count(3)
    expect(tokens(page)).to_have_count(3 * (len(TEXT) - 1))


def test_a_reload_and_history_find_the_inspection_again(server: Server, visit: Visit) -> None:
    page = inspected(server, visit)
    assert re.search(r"inspection=[\w-]+", page.url)
    page.reload()
    finished(page)
    expect(tokens(page)).to_have_count(len(TEXT) - 1)
    history = page.get_by_role("tab", name="History")
    history.click()
    row = page.locator(".sol-history-row")
    expect(row).to_contain_text("Inspected: Full model, Static, Random")
    page.locator(".sol-history-title").click()
    finished(page)
    page.get_by_role("button", name="Use its settings").last.click()
    form = page.get_by_role("form", name="Inspection")
    expect(form.get_by_label("Text", exact=True)).to_have_value(TEXT)
    history.click()
    page.get_by_role("button", name=re.compile("^Delete")).click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(row).to_have_count(0)
    page.get_by_role("tab", name="Inspect").click()
    expect(tokens(page)).to_have_count(0)
    assert "inspection=" not in page.url


def test_a_schedule_is_painted_by_keyboard_and_by_finger_and_scored(
    server: Server, visit: Visit
) -> None:
    page = inspected(server, visit)
    page.get_by_role("button", name="Paint a schedule").click()
    painter = page.get_by_role("region", name="Painted schedule")
    painted = painter.get_by_role("option")
    spending = painter.locator(".sol-paint-spent")
    expect(painted).to_have_count(len(TEXT) - 1)
    expect(spending).to_contain_text(re.compile(r"[\d.]+ % compute"))
    before = spending.inner_text()

    def says(at: int, words: str, of: Locator = painted) -> None:
        expect(of.nth(at)).to_have_attribute("aria-label", re.compile(words))

    # The MLP of the first three tokens, one level more: by keyboard, and back.
    painted.first.focus()
    for key in ("m", "Shift+ArrowRight", "Shift+ArrowRight", "+"):
        page.keyboard.press(key)
    says(0, "65 % MLP")
    says(3, "60 % MLP")
    page.keyboard.press("Control+z")
    says(0, "60 % MLP")
    # By pointer, over several tokens in one stroke; it is kept over a reload.
    start, end = (painted.nth(at).bounding_box() or {"x": 0, "y": 0} for at in (0, 5))
    page.mouse.move(start["x"] + 3, start["y"] + 5)
    page.mouse.down()
    page.mouse.move(end["x"] + 3, end["y"] + 5, steps=6)
    page.mouse.up()
    says(4, "100 % MLP")
    expect(spending).not_to_have_text(before)
    page.reload()
    says(4, "100 % MLP")

    painter.get_by_role("button", name="Score it").click()
    table = page.get_by_role("group", name="Schedules compared")
    rows = ["Full model", "Static", "Random", "Painted"]
    expect(table.get_by_role("rowheader")).to_have_text(rows)
    finished(page)
    says(4, "100 % MLP", tokens(page))
    expect(page.locator(".sol-inspect .sol-finding")).to_have_text(re.compile("Too few to tell"))

    phone = visit(server, has_touch=True, viewport={"width": 390, "height": 844}).page
    phone.goto(page.url)
    finished(phone)
    phone.get_by_role("button", name="Paint a schedule").click()
    painted = phone.get_by_role("region", name="Painted schedule").get_by_role("option")
    says(7, "50 % attention", painted)
    painted.nth(7).tap()
    says(7, "100 % attention", painted)


TOKENS = 24


def generated(server: Server, visit: Visit) -> Visitor:
    """On a finished run that a tiny random model made."""
    visitor = visit(server)
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
    visitor = generated(server, visit)
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

    visitor.tokens.nth(TOKENS - 1).click()
    expect(panel(visitor)).to_contain_text(f"token {TOKENS}")
    expect(panel(visitor)).to_contain_text("Nothing of this step reaches a later token")
    panel(visitor).get_by_role("button", name="Close").click()
    expect(panel(visitor)).to_be_hidden()


def test_what_cannot_be_looked_into_says_why(
    server: Server, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = generated(server, visit)

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


TOLD = re.compile("First difference at token|wrote the same")


def test_two_texts_are_aligned_and_come_back_by_their_link(server: Server, visit: Visit) -> None:
    visitor = generated(server, visit)
    page = visitor.page
    page.get_by_role("button", name="Compare with …").click()
    form = page.get_by_role("form", name="Compare with")
    expect(page.locator(".sol-pair-grid .sol-token").first).to_be_visible()
    form.get_by_role("radio", name="Full model").check(force=True)
    form.get_by_role("button", name="Compare", exact=True).click()
    note = page.locator(".sol-pair-parted")
    expect(note).to_have_text(TOLD, timeout=WARM_UP_MS)
    rows = page.locator(".sol-pair-table tbody tr")
    expect(rows.filter(has_text="NLL under the full model")).to_have_text(
        re.compile(r"\d\.\d{3}.*\d\.\d{3}")
    )
    texts = page.locator(".sol-pair-grid .sol-token").all_text_contents()
    verdict = page.locator(".sol-pair .sol-finding")
    expect(verdict).to_contain_text("Too few to tell")
    told = note.inner_text()

    page.reload()
    expect(note).to_have_text(told)
    assert page.locator(".sol-pair-grid .sol-token").all_text_contents() == texts
    address = page.url
    page.goto(f"{address}&tab=compare")  # as links of earlier releases have it
    expect(note).to_have_text(told)

    # From History, with a saved run.
    visitor.tab("History")
    page.get_by_role("button", name=re.compile("^Compare")).first.click()
    form.get_by_role("radio", name="A saved run").check(force=True)
    form.get_by_role("button", name="Compare", exact=True).click()
    expect(note).to_have_text(TOLD)
    page.get_by_role("button", name="Back to the answer").click()
    expect(page.get_by_role("button", name="Generate")).to_be_visible()
    visitor.expect_state("Finished")
