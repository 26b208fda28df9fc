"""A lesson with the keyboard alone, what is kept of it, and the glossary's explanations."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from app.host.paths import DataDir
from app.web.assets import terms
from app.web.services import engine_generate
from tests.browser.conftest import WARM_UP_MS, Server, Visitor
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_models import FAMILIES

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]


def serve_tiny(serve: Serve, tmp_path: Path, go: threading.Event) -> Server:
    """The real engine over a tiny model, which is loaded when ``go`` is set."""
    family = dataclasses.replace(FAMILIES[0], options={"max_position_embeddings": 1024})
    model = dataclasses.replace(make_language_model(family), name="fake-model")

    def load(on_progress: Any) -> Any:
        on_progress("Loading", 0.4)
        assert go.wait(60)
        return model

    return serve(engine_generate(DataDir(tmp_path)), load=load)


def lesson(visitor: Visitor) -> Locator:
    return visitor.page.locator(".sol-lesson:visible")


def tab_to(visitor: Visitor, locator: Locator, most: int = 40) -> None:
    for _ in range(most):
        visitor.page.keyboard.press("Tab")
        if locator.evaluate("(node) => node === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {locator}")


def test_a_lesson_by_keyboard_begun_before_the_model_is_there(
    serve: Serve, visit: Visit, tmp_path: Path
) -> None:
    go = threading.Event()
    visitor = visit(serve_tiny(serve, tmp_path, go))
    visitor.page.goto(f"{visitor.url}?lesson=channels")
    keys = visitor.page.keyboard
    expect(lesson(visitor).get_by_role("heading", level=2)).to_have_text("3. Channels")
    visitor.page.get_by_role("link", name="Attention pages").focus()
    keys.press("Enter")
    heading = lesson(visitor).get_by_role("heading", level=2)
    expect(heading).to_have_text("2. Attention pages")
    expect(heading).to_be_focused()
    expect(visitor.page).to_have_url(re.compile("lesson=pages"))

    # A word of the glossary, on the way to the question.
    tip = visitor.page.get_by_role("tooltip").filter(visible=True)
    keys.press("Tab")
    expect(tip).to_contain_text("Attention: The part of a layer that looks back")
    term = lesson(visitor).get_by_role("button", name="Attention", exact=True)
    expect(term).to_have_accessible_description(re.compile("^Attention: The part of a layer"))
    keys.press("Escape")
    expect(tip).to_have_count(0)
    expect(term).to_be_focused()

    commit = lesson(visitor).get_by_role("button", name="Commit and measure")
    expect(commit).to_be_disabled()
    tab_to(visitor, lesson(visitor).get_by_role("radio").first)
    keys.press("ArrowDown")
    tab_to(visitor, commit)
    keys.press("Enter")
    # All text is there before the model is.
    expect(lesson(visitor)).to_contain_text("What to keep")
    expect(lesson(visitor)).to_contain_text("The model is still loading (40 %)")
    go.set()
    slider = lesson(visitor).get_by_role("slider", name="Attention kept")
    expect(slider).to_have_attribute("aria-valuetext", "10 %", timeout=WARM_UP_MS)
    expect(lesson(visitor)).to_contain_text(re.compile("(As|Not as) you guessed"))
    expect(lesson(visitor)).to_contain_text("Measured on fake-model")
    tab_to(visitor, slider)
    before = lesson(visitor).locator(".sol-learn-bars").first.inner_text()
    keys.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "70 %")
    assert lesson(visitor).locator(".sol-learn-bars").first.inner_text() != before

    # The answer is kept in the browser; the measurement is the server's.
    visitor.page.reload()
    expect(visitor.page.get_by_role("link", name="Attention pages done")).to_be_visible()
    expect(lesson(visitor).locator(".sol-option.is-chosen")).to_contain_text("answered")
    expect(lesson(visitor).get_by_role("slider")).to_be_visible()
    visitor.page.go_back()
    expect(lesson(visitor).get_by_role("heading", level=2)).to_have_text("3. Channels")


def test_both_ways_of_choosing_pages_are_shown_side_by_side(
    serve: Serve, visit: Visit, tmp_path: Path
) -> None:
    go = threading.Event()
    go.set()
    visitor = visit(serve_tiny(serve, tmp_path, go))
    visitor.page.goto(f"{visitor.url}?lesson=which")
    shown = lesson(visitor)
    expect(shown.get_by_role("heading", level=2)).to_have_text("4. Which pages, not how many")
    shown.get_by_role("radio", name="Less than a third").check(force=True)
    shown.get_by_role("button", name="Commit and measure").click()
    pages, mlp = (shown.locator("section.sol-learn-part").nth(at) for at in (0, 1))
    sentence = pages.get_by_role("status")
    ratio = re.compile(r"^4-bit keys: \d+ % of the KL of “Page bounds”, for \d+ % of the bytes")
    expect(sentence).to_have_text(ratio, timeout=WARM_UP_MS)
    expect(mlp.get_by_role("status")).to_have_text(re.compile("^Both sides: .* of the MLP"))
    # The same tokens twice, coloured by two measurements.
    lines = pages.locator(".sol-learn-passage")
    expect(lines).to_have_count(2)
    first, second = (lines.nth(at).locator("[data-bin]") for at in (0, 1))
    assert first.all_text_contents() == second.all_text_contents()
    colours = [
        [token.get_attribute("data-bin") for token in line.all()] for line in (first, second)
    ]
    assert colours[0] != colours[1]
    before = sentence.inner_text(), pages.locator(".sol-learn-bars").inner_text()
    pages.get_by_role("radio", name="40 %").check(force=True)
    expect(sentence).not_to_have_text(before[0])
    assert pages.locator(".sol-learn-bars").inner_text() != before[1]
    assert visitor.overflows(360, 768, 1280) == []


def test_words_are_explained_under_the_pointer_by_touch_and_in_the_list(
    serve: Serve, visit: Visit
) -> None:
    visitor = visit(serve(), has_touch=True)
    page = visitor.page
    tip = page.get_by_role("tooltip").filter(visible=True)
    term = page.locator(".sol-controls .sol-term[data-term='mlp']")
    visitor.show_axes()
    term.hover()
    expect(tip).to_contain_text("MLP: The part of a layer")
    tip.hover()  # it stays while the pointer is on it
    page.wait_for_timeout(300)
    expect(tip).to_have_count(1)
    page.mouse.move(2, 2)
    expect(tip).to_have_count(0)
    term.tap()
    expect(tip).to_have_count(1)
    term.tap()
    expect(tip).to_have_count(0)
    page.goto(f"{visitor.url}?lesson=glossary")
    words = page.locator(".sol-word:visible")
    expect(words).to_have_count(len(terms()))
    page.get_by_label("Find a word").fill("kullback")
    expect(words).to_have_count(1)
    expect(words).to_contain_text("KL")
