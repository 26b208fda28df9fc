"""The Compare page over the real engine with a tiny model: painting by keys, scores, two texts."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from app.challenges.texts import DAILY
from app.host.paths import DataDir
from app.web.services import engine_generate
from tests.browser.axe import violations
from tests.browser.conftest import WARM_UP_MS, Server, Visitor
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
TEXT = "The keeper of the light wrote down every ship ${7*7} <b>."
HOSTILE = "<img src=x onerror=alert(1)> ${7*7}"


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> Server:
    model = dataclasses.replace(make_language_model(), name="fake-model")
    data_dir = DataDir(tmp_path / "data")
    save_tiny_policy(model, data_dir.policies / "tiny")
    return serve(engine_generate(data_dir), load=lambda on_progress: model)


def part(visitor: Visitor, name: str) -> Locator:
    visitor.tab("Compare")
    visitor.page.get_by_role("radio", name=name).check(force=True)
    return visitor.page.locator(".sol-compare")


def schedule(page: Locator) -> list[str]:
    """Attention of every token, as the labels say it."""
    labels = [token.get_attribute("aria-label") or "" for token in tokens(page).all()]
    return [re.findall(r"Attention ([\d.]+) %", label)[0] for label in labels]


def tokens(page: Locator) -> Locator:
    return page.locator(".sol-paintable .sol-token")


def set_up(page: Locator) -> None:
    """A challenge of 16 tokens; the first batch of many rows may have kernels to compile."""
    page.get_by_label("Its words").fill(TEXT)
    page.get_by_label("Tokens to paint", exact=True).fill("16")
    page.get_by_label("Policy to beat").select_option("tiny")
    page.get_by_role("button", name="Begin").click()
    expect(tokens(page)).to_have_count(16, timeout=WARM_UP_MS)


def test_a_schedule_is_painted_with_keys_scored_and_found_again(
    server: Server, visit: Visit
) -> None:
    visitor = visit(server)
    keyboard = visitor.page.keyboard
    page = part(visitor, "Beat the policy")
    set_up(page)
    scores = page.get_by_role("region", name="Scores", exact=True)
    expect(scores).to_contain_text("Your turn")
    expect(scores).to_contain_text("To win, come below")
    expect(page.locator(".sol-share")).to_be_hidden()
    send = page.get_by_role("button", name="Score it")
    assert set(schedule(page)) == {"10"}  # nothing is painted yet
    expect(page.locator(".sol-meter-rest").first).to_have_text(re.compile(r"\d+ levels left"))
    tokens(page).nth(2).focus()
    keyboard.press("+")
    keyboard.press("ArrowRight")
    keyboard.press("0")
    keyboard.press("ArrowRight")
    keyboard.press("Shift+ArrowRight")
    keyboard.press("3")
    assert schedule(page)[1:7] == ["10", "20", "100", "30", "30", "10"]
    keyboard.press("Control+z")
    assert schedule(page)[4:6] == ["10", "10"]
    keyboard.press("-")
    assert schedule(page)[4:6] == ["10", "10"]  # nothing is below the lowest level
    keyboard.press("Escape")
    keyboard.press("Escape")

    page.get_by_role("button", name="Policy", exact=True).click()
    at = next(n for n, level in enumerate(schedule(page)) if float(level) < 100)
    tokens(page).nth(at).focus()
    keyboard.press("+")
    expect(page.locator(".sol-budget-note")).to_contain_text("attention by 1 level")
    expect(send).to_be_disabled()
    keyboard.press("-")
    expect(send).to_be_enabled()
    keyboard.press("Escape")

    page.get_by_label("Name", exact=True).fill(HOSTILE)
    send.click()
    board = page.locator(".sol-board-row")
    expect(board).to_have_count(1)
    expect(board).to_contain_text(HOSTILE)
    expect(board).not_to_contain_text("beats both")
    policy, static = (
        float(page.locator(f"tr[data-method={name}] td").first.inner_text())
        for name in ("policy", "static")
    )
    verdict = "As good as the policy" if policy <= static else "static has"
    expect(scores).to_contain_text(verdict)
    shared = copied_squares(visitor, page)
    assert shared[0] == "Beat the policy"
    assert re.fullmatch(r"Not won: \d+ % more KL than the better of policy and static", shared[1])
    # Nowhere closer than the policy, since it is the policy's schedule.
    assert re.fullmatch("[🟨⬜]{16}", shared[2])
    assert len(shared) == 3
    strip = page.locator(".sol-share-squares")
    closer = shared[2].count("🟨")
    expect(strip).to_have_accessible_name(
        "Of 16 tokens: 0 closer than policy and static, "
        f"{closer} closer than one of them, {16 - closer} closer than neither"
    )
    assert list(violations(visitor.page)) == []
    assert visitor.overflows(390, 1440) == []

    page.get_by_role("button", name="Export the scoreboard").click()
    assert page.get_by_role("button", name="Web page").locator("visible=true").count() == 0
    with visitor.page.expect_download() as download:
        page.get_by_role("button", name="JSON").locator("visible=true").click()
    document = json.loads(download.value.path().read_text("utf-8"))
    assert document["format"] == "sol-explorer-scoreboard"
    assert [one["name"] for one in document["attempts"]] == [HOSTILE]

    painted = schedule(page)
    visitor.page.reload()
    expect(tokens(page)).to_have_count(16)
    assert schedule(page) == painted
    expect(page.get_by_label("Its words")).to_have_value(TEXT)
    expect(board).to_contain_text(HOSTILE)
    board.get_by_role("button", name="Delete").click()
    visitor.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(board).to_have_count(0)


def copied_squares(visitor: Visitor, page: Locator) -> list[str]:
    page.get_by_role("button", name="Copy the squares").click()
    return str(visitor.page.evaluate("navigator.clipboard.readText()")).split("\n")


def test_the_text_of_the_day_is_the_dates(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(), own=True)
    words = visitor.page.get_by_label("Its words")
    days = (date(2026, 11, 27), date(2026, 11, 28), date(2027, 2, 1))
    for day in days:
        visitor.page.clock.set_fixed_time(f"{day}T20:30:00")
        visitor.page.goto(f"{visitor.url}?challenge=")
        expect(visitor.page.get_by_role("radio", name="Text of the day")).to_be_checked()
        expect(words).to_have_value(DAILY[(day - date(1970, 1, 1)).days % len(DAILY)])
    visitor.page.get_by_role("radio", name="Numbers").check(force=True)
    expect(words).to_have_value(re.compile("square numbers"))
    visitor.page.get_by_role("radio", name="Text of the day").check(force=True)
    expect(words).to_have_value(DAILY[(days[-1] - date(1970, 1, 1)).days % len(DAILY)])


def test_a_drag_paints_and_undo_takes_the_stroke_back(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = part(visitor, "Beat the policy")
    set_up(page)
    first, last = tokens(page).nth(1).bounding_box(), tokens(page).nth(4).bounding_box()
    assert first is not None
    assert last is not None
    mouse = visitor.page.mouse
    mouse.move(first["x"] + 4, first["y"] + 8)
    mouse.down()
    mouse.move(last["x"] + 4, last["y"] + 8, steps=2)  # faster than a token at a time
    mouse.up()
    assert schedule(page)[:6] == ["10", "100", "100", "100", "100", "10"]
    page.get_by_role("button", name="Undo").click()
    assert set(schedule(page)) == {"10"}
    tokens(page).nth(2).click()
    assert schedule(page)[1:4] == ["10", "100", "10"]
    page.get_by_role("button", name="Undo").click()
    assert set(schedule(page)) == {"10"}
    mouse.move(first["x"] + 4, first["y"] + 8)
    mouse.down()
    assert schedule(page)[1] == "100"
    visitor.page.evaluate("dispatchEvent(new PointerEvent('pointercancel'))")  # it was a scroll
    assert set(schedule(page)) == {"10"}
    mouse.up()
    page.get_by_label("Its words").fill("Too short.")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("alert")).to_contain_text("Paste a longer text")


def test_two_texts_are_aligned_and_come_back_by_their_link(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = part(visitor, "Two runs")
    page.get_by_label("Max new tokens").first.fill("12")
    page.get_by_text("Advanced, for both sides").click()
    page.get_by_label("Ignore end of text").check(force=True)
    page.get_by_role("radio", name="Dense").first.check(force=True)
    page.get_by_role("button", name="Generate both").click()
    note = page.locator(".sol-pair-parted")
    told = re.compile("First difference at token|wrote the same 12 tokens")
    expect(note).to_have_text(told, timeout=WARM_UP_MS)
    rows = page.locator(".sol-pair-table tbody tr")
    expect(rows.filter(has_text="NLL under the dense model")).to_have_text(
        re.compile(r"\d\.\d{3}.*\d\.\d{3}")
    )
    expect(rows.filter(has_text="KL to dense").locator("td").nth(1)).to_have_text(
        re.compile(r"\d\.\d{3}")
    )
    texts = page.locator(".sol-pair-grid .sol-token").all_text_contents()
    assert len(texts) == 24
    found = note.inner_text()

    visitor.page.reload()
    expect(note).to_have_text(found)
    assert page.locator(".sol-pair-grid .sol-token").all_text_contents() == texts
    # From History: the chosen run is A, the other one follows.
    visitor.tab("History")
    visitor.page.get_by_role("button", name=re.compile("^Compare")).first.click()
    page.get_by_role("button", name="Compare these runs").click()
    expect(note).to_have_text(re.compile("First difference|wrote the same"))


def test_the_papers_mechanisms_stand_against_the_default_ones(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = part(visitor, "Two runs")
    names = {"a": "Paper: page bounds", "b": "Default: 4-bit keys"}
    page.get_by_label("Max new tokens").first.fill("12")
    page.get_by_text("Advanced, for both sides").click()
    page.get_by_label("Ignore end of text").check(force=True)
    for at, name in names.items():
        side = page.locator(f"details[data-side={at}]")
        if not side.evaluate("(node) => node.open"):
            side.locator("summary").click()
        side.get_by_role("radio", name="Static").check(force=True)
        side.get_by_role("radio", name=name).check(force=True)
    page.get_by_role("button", name="Generate both").click()
    note = page.locator(".sol-pair-parted")
    told = re.compile("First difference at token|wrote the same 12 tokens")
    expect(note).to_have_text(told, timeout=WARM_UP_MS)
    for line in ("KL to dense", "Bytes saved"):
        values = page.locator(".sol-pair-table tbody tr").filter(has_text=line).locator("td")
        assert values.nth(0).inner_text() != values.nth(1).inner_text()
    visitor.page.reload()
    expect(note).to_have_text(told)
    for at, name in names.items():
        expect(page.locator(f".sol-pair-head[data-side={at}]")).to_contain_text(name)
        expect(page.locator(f"details[data-side={at}] summary")).to_contain_text(name)
