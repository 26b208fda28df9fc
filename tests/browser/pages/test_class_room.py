"""A lesson in class: a room whose guesses the teacher sees, large type, and the sheet to print."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from app.lessons.rooms import LESSONS, OPTIONS
from tests.browser.axe import violations
from tests.browser.conftest import WARM_UP_MS, Server, Visitor
from tests.browser.pages.test_learn import lesson, serve_tiny, tab_to

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
HOSTILE = "<img src=x onerror='window.bad = 1'>\u202e${7*7}"


def learning(visitor: Visitor, query: str) -> Visitor:
    """Somebody who is at this place of the Learn page."""
    visitor.page.goto(visitor.url + query)
    expect(lesson(visitor)).to_be_visible()
    return visitor


def room(visitor: Visitor) -> Locator:
    return visitor.page.get_by_role("region", name="Class room")


def bars(visitor: Visitor) -> list[str]:
    """Counts of the guesses as the teacher's panel shows them."""
    return room(visitor).locator(".sol-guesses .sol-value").all_text_contents()


def test_a_class_guesses_on_its_own_screens_and_the_teacher_sees_it(
    serve: Serve, visit: Visit
) -> None:
    server = serve()
    teacher = learning(visit(server), "?lesson=channels")
    tab_to(teacher, room(teacher).get_by_role("button", name="Open a room"))
    teacher.page.keyboard.press("Enter")
    letters = room(teacher).locator(".sol-room-code")
    expect(letters).to_have_text(re.compile("^[A-Z]{5}$"))
    expect(room(teacher).get_by_role("heading")).to_be_focused()
    expect(room(teacher)).to_contain_text("Asks: 3. Channels")
    expect(room(teacher)).to_contain_text("No guesses yet")
    code = letters.inner_text()

    # A pupil on another machine: a code that is none, then the right one, small and spaced.
    pupil = learning(visit(server, viewport={"width": 390, "height": 800}), "?lesson=steps")
    entry = room(pupil).get_by_label("Code")
    for wrong, words in ((HOSTILE, "A room code has 5 letters"), ("BBBBB", "No room has the code")):
        if wrong != code:
            entry.evaluate("(node, text) => { node.maxLength = 999; node.value = text; }", wrong)
            entry.press("Enter")
            expect(room(pupil).get_by_role("alert")).to_contain_text(words)
    assert pupil.page.evaluate("window.bad") is None
    entry.fill(f" {code[:2].lower()} {code[2:]}")
    entry.press("Enter")
    expect(lesson(pupil).get_by_role("heading", level=2)).to_have_text("3. Channels")
    send = lesson(pupil).get_by_role("button", name="Send to the class")
    expect(send).to_be_disabled()
    lesson(pupil).get_by_role("radio").nth(1).check(force=True)
    send.click()
    expect(lesson(pupil)).to_contain_text(f"B is sent to room {code}")
    expect(room(teacher)).to_contain_text("1 guess")
    assert bars(teacher) == ["0", "1", "0"]
    lesson(pupil).get_by_role("radio").nth(2).check(force=True)
    send.click()
    expect(room(teacher).locator(".sol-value").nth(2)).to_have_text("1")
    assert bars(teacher) == ["0", "0", "1"]
    assert list(violations(pupil.page)) == []
    assert pupil.overflows(390, 1440) == []

    # On the projector the bars go on, with the answers' words.
    teacher.page.get_by_role("button", name="Show large").click()
    slide = teacher.page.get_by_role("dialog")
    while not slide.get_by_text(f"Guess! Room {code}").is_visible():
        teacher.page.keyboard.press("ArrowRight")
    expect(slide.locator(".sol-guesses")).to_contain_text("C Another token takes its place1")
    server.services.rooms.guess("f" * 32, code, "channels", 0)
    expect(slide.locator(".sol-value").first).to_have_text("1")
    assert list(violations(teacher.page)) == []
    teacher.page.keyboard.press("Escape")

    # Reloads leave both in the room; another question takes the class along.
    for visitor in (teacher, pupil):
        visitor.page.reload()
    expect(letters).to_have_text(code)
    expect(room(teacher)).to_contain_text("2 guesses")
    teacher.page.get_by_role("link", name="Bits").click()
    room(teacher).get_by_role("button", name="Ask this lesson's question").click()
    expect(room(teacher)).to_contain_text("Asks: 5. Bits")
    expect(room(teacher)).to_contain_text("No guesses yet")
    expect(lesson(pupil).get_by_role("heading", level=2)).to_have_text("5. Bits")
    expect(send).to_be_visible()
    assert list(violations(teacher.page)) == []
    room(teacher).get_by_role("button", name="Close the room").click()
    expect(room(teacher).get_by_label("Code")).to_be_visible()
    expect(room(pupil).get_by_role("alert")).to_contain_text("No room has the code")
    expect(send).to_be_hidden()
    # Who comes by the link is in.
    again = server.services.rooms.open("e" * 32, "pages")["code"]
    pupil.page.goto(f"{pupil.url}?room={again}")
    expect(lesson(pupil).get_by_role("heading", level=2)).to_have_text("2. Attention pages")
    expect(room(pupil)).to_contain_text(f"Room {again}")


def test_the_server_knows_the_pages_lessons(serve: Serve, visit: Visit) -> None:
    visitor = learning(visit(serve()), "?lesson=steps")
    links = visitor.page.locator(".sol-learn-link")
    names = [str(one.get_attribute("href")).rpartition("=")[2] for one in links.all()]
    assert names == [*LESSONS, "glossary"]
    options = visitor.page.locator(".sol-lesson").evaluate_all(
        "(all) => all.map((one) => one.querySelectorAll('.sol-option').length)"
    )
    assert options == [OPTIONS] * len(LESSONS) + [0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_lesson_on_a_projector_goes_by_keys_from_idea_to_idea(
    serve: Serve, visit: Visit, tmp_path: Path, scheme: str
) -> None:
    go = threading.Event()
    visitor = visit(serve_tiny(serve, tmp_path, go), color_scheme=scheme)
    learning(visitor, "?lesson=channels")
    page, keys = visitor.page, visitor.page.keyboard
    opener = page.get_by_role("button", name="Show large")
    opener.focus()
    keys.press("Enter")
    slide = page.get_by_role("dialog", name="Channels")
    expect(slide.get_by_role("heading", name="Channels")).to_be_visible()
    size = slide.get_by_role("heading").evaluate(
        "(node) => parseFloat(getComputedStyle(node).fontSize)"
    )
    assert size >= 40
    shown = slide.locator(".sol-slide-stage")
    expect(shown).to_be_focused()
    seen = [shown.inner_text()]
    for key in ("Space", "ArrowRight", "PageDown"):
        keys.press(key)
        seen.append(shown.inner_text())
    assert len(set(seen)) == 4
    assert "Guess!" in seen[-1]
    assert list(violations(page)) == []
    keys.press("ArrowLeft")
    assert shown.inner_text() == seen[-2]
    keys.press("Space")
    # The answer is measured when it is asked for, and not on the page before.
    expect(slide).not_to_contain_text("KL between")
    keys.press("Space")
    expect(slide).to_contain_text("The model is still loading (40 %)")
    go.set()
    expect(slide).to_contain_text("the KL between the two steps is", timeout=WARM_UP_MS)
    slider = slide.get_by_role("slider", name="Channels kept")
    slider.focus()
    keys.press("End")  # a field keeps its keys
    expect(slider).to_have_attribute("aria-valuetext", "100 %")
    expect(shown).to_have_accessible_name("5 of 7")
    assert list(violations(page)) == []
    assert visitor.overflows(390, 1440, 1920) == []
    slide.get_by_role("button", name="Next").click()
    expect(slide).to_contain_text("What to keep")
    keys.press("Space")
    keys.press("Space")
    keys.press("Space")
    expect(shown).to_have_accessible_name("7 of 7")
    keys.press("Escape")
    expect(slide).to_have_count(0)
    expect(opener).to_be_focused()
    # The reader's own guess is still open.
    expect(lesson(visitor).get_by_role("button", name="Commit and measure")).to_be_visible()


def test_a_sheet_to_print_has_its_measured_answers_on_a_page_of_their_own(
    serve: Serve, visit: Visit, tmp_path: Path
) -> None:
    go = threading.Event()
    go.set()
    visitor = learning(visit(serve_tiny(serve, tmp_path, go)), "?lesson=steps")
    with visitor.page.expect_download(timeout=WARM_UP_MS) as download:
        visitor.page.get_by_role("button", name="Worksheet to print").click()
    sheet = download.value.path().read_text("utf-8")
    assert download.value.suggested_filename == "worksheet.html"
    assert "[[" not in sheet
    assert not re.search(r"(src|href)=|<script", sheet)
    page = visitor.page.context.new_page()
    page.set_content(sheet)
    expect(page.locator("h2")).to_have_count(2 * len(LESSONS))
    expect(page.locator("ol > li")).to_have_count(OPTIONS * len(LESSONS))
    answers = page.locator(".answers")
    expect(answers).to_have_css("break-before", "page")
    expect(answers).to_contain_text("Measured on fake-model")
    expect(answers.locator("h2").first).to_have_text(
        re.compile(r"1\. What is a decode step\?: [ABC]")
    )
    questions = page.locator("section:not(.answers)").all_text_contents()
    assert len(questions) == len(LESSONS)
    assert not any("nats, the hardest" in one for one in questions)
    page.emulate_media(media="print")
    pages = re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))
    assert len(pages) >= 3
    assert list(violations(page)) == []
