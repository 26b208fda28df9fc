"""Inspect, what if and Compare over the real engine with a tiny model."""

import dataclasses
import re

import pytest
from playwright.sync_api import expect

from app.host.paths import DataDir
from app.web.services import engine_run
from tests.browser.conftest import WARM_UP_MS
from tests.support.tiny_language_model import make_language_model

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
TEXT = "A <img src=x onerror=alert(1)>\nat ${7*7}."


@pytest.fixture
def server(serve, tmp_path):
    model = dataclasses.replace(make_language_model(), name="fake-model")
    return serve(engine_run(DataDir(tmp_path)), load=lambda on_progress: model)


def tokens(page):
    return page.locator(".sol-inspect .sol-lines .sol-token")


def depth(element):
    """Distance from the top of the page, px."""
    return element.evaluate("(element) => element.getBoundingClientRect().y + scrollY")


def finished(page):
    expect(page.locator(".sol-inspect .sol-state")).to_have_text("Finished", timeout=WARM_UP_MS)


def inspected(server, visit):
    """A page on a finished inspection under static and random."""
    page = visit(server).page
    page.get_by_role("tab", name="Inspect").click()
    form = page.get_by_role("form", name="Inspection")
    form.get_by_role("button", name="Code", exact=True).click()
    expect(form.get_by_label("Text", exact=True)).to_have_value(re.compile("def mean"))
    form.get_by_label("Text", exact=True).fill(TEXT)
    form.get_by_label("Schedule 1").select_option("static")
    form.get_by_label("Schedule 2").select_option("random")
    form.get_by_role("button", name="Inspect").click()
    finished(page)
    return page


def test_the_strips_show_what_a_token_needed_and_a_click_takes_a_line_away(server, visit):
    page = inspected(server, visit)
    room = page.locator(".sol-inspect")
    said, strips = room.locator(".sol-page-said"), room.locator(".sol-strips svg")
    sentence = re.compile("needed|No single page|lmost any page|little probability")
    expect(said).to_contain_text(sentence, timeout=WARM_UP_MS)
    top = depth(tokens(page).first)
    tokens(page).first.hover()
    expect(said).to_be_hidden()  # it is about another token
    assert depth(tokens(page).first) == top  # else a click would miss it
    page.mouse.move(2, 2)
    expect(said).to_be_visible()
    expect(room.locator(".sol-strip-needed")).to_have_attribute("d", re.compile("^M"))
    page.reload()
    expect(room.locator(".sol-strip-needed")).to_have_attribute("d", re.compile("^M"))
    box = strips.bounding_box()
    strips.click(position={"x": 0.3 * box["width"], "y": 20})
    expect(said).to_contain_text(re.compile("without “.+”: "))
    expect(said).to_be_visible()
    expect(room.locator(".sol-reading-caption")).to_be_hidden()  # they stand in one place
    struck = room.locator(".sol-token.is-left-out")
    expect(struck).to_have_count(8)  # a page
    room.get_by_role("button", name="Put back").click()
    expect(struck).to_have_count(0)
    page.set_viewport_size({"width": 390, "height": 844})
    table = room.get_by_role("group", name="Schedules compared").bounding_box()
    assert table["x"] + table["width"] <= 390  # it scrolls in its place


def test_a_text_is_scored_and_every_list_leads_to_its_token(server, visit):
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


def test_a_schedule_is_painted_by_keyboard_and_by_finger_and_scored(server, visit):
    page = inspected(server, visit)
    page.get_by_role("button", name="Paint a schedule").click()
    painter = page.get_by_role("region", name="Painted schedule")
    painted = painter.get_by_role("option")
    spending = painter.locator(".sol-paint-spent")
    expect(painted).to_have_count(len(TEXT) - 1)
    expect(spending).to_contain_text(re.compile(r"[\d.]+\s% of the full"))
    before = spending.inner_text()
    score = painter.get_by_role("button", name="Score it")
    expect(score).to_be_disabled()  # nothing is painted yet

    def says(at, words, of=painted):
        expect(of.nth(at)).to_have_attribute("aria-label", re.compile(words))

    # The MLP of the first three tokens, one level more: by keyboard, and back.
    painted.first.focus()
    for key in ("m", "Shift+ArrowRight", "Shift+ArrowRight", "+"):
        page.keyboard.press(key)
    says(0, "65 % MLP")
    says(3, "60 % MLP")
    expect(score).to_be_enabled()
    page.keyboard.press("Control+z")
    says(0, "60 % MLP")
    expect(score).to_be_disabled()
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

    score.click()
    table = page.get_by_role("group", name="Schedules compared")
    rows = ["Full model", "Static", "Random", "Painted"]
    expect(table.get_by_role("rowheader")).to_have_text(rows)
    finished(page)
    says(4, "100 % MLP", tokens(page))
    expect(page.locator(".sol-inspect .sol-finding").last).to_have_text(
        re.compile("Too few to tell")
    )

    phone = visit(server, has_touch=True, viewport={"width": 390, "height": 844}).page
    phone.goto(page.url)
    finished(phone)
    phone.get_by_role("button", name="Paint a schedule").click()
    painted = phone.get_by_role("region", name="Painted schedule").get_by_role("option")
    says(7, "50 % attention", painted)
    painted.nth(7).tap()
    says(7, "100 % attention", painted)
