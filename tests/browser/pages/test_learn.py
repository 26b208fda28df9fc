"""A lesson with the keyboard alone, what is kept of it, and the glossary's explanations."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from app.host.paths import DataDir
from app.web.assets import terms
from app.web.services import engine_generate
from app.web.theme_colours import DARK, LIGHT, Palette, Rgb
from tests.browser.axe import violations
from tests.browser.conftest import WARM_UP_MS, Server, Visitor, comes_to
from tests.sol_core.generation.page_levels import by_level, levels_of
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_models import FAMILIES

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
LAYERS = 2  # of the tiny model


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


def machine(visitor: Visitor) -> Locator:
    """The drawings that a lesson zooms to, described in words."""
    return lesson(visitor).get_by_role("img", name=re.compile("^The machine: "))


def commit(visitor: Visitor, address: str) -> None:
    """Open a lesson, guess, and wait for what is measured."""
    visitor.page.goto(f"{visitor.url}?lesson={address}")
    lesson(visitor).get_by_role("radio").first.check(force=True)
    expect(machine(visitor)).to_have_count(0)
    lesson(visitor).get_by_role("button", name="Commit and measure").click()
    expect(machine(visitor).first).to_be_visible(timeout=WARM_UP_MS)


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
    expect(lesson(visitor).get_by_role("heading", level=2)).to_have_text("4. Channels")
    visitor.page.get_by_role("link", name="Attention pages").focus()
    keys.press("Enter")
    heading = lesson(visitor).get_by_role("heading", level=2)
    expect(heading).to_have_text("3. Attention pages")
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
    # Nothing of an answer is there before it is measured, and the lesson is not done.
    expect(lesson(visitor)).to_contain_text("The model is still loading (40 %)")
    kept = lesson(visitor).get_by_role("heading", name="What to keep")
    expect(kept).to_have_count(0)
    expect(visitor.page.get_by_role("link", name="Attention pages done")).to_have_count(0)
    expect(machine(visitor)).to_have_count(0)
    go.set()
    slider = lesson(visitor).get_by_role("slider", name="Attention kept")
    expect(slider).to_have_attribute("aria-valuetext", "10 %", timeout=WARM_UP_MS)
    expect(lesson(visitor)).to_contain_text(re.compile("(As|Not as) you guessed"))
    expect(lesson(visitor)).to_contain_text("Measured on fake-model")
    expect(kept).to_be_visible()
    expect(visitor.page.get_by_role("link", name="Attention pages done")).to_be_visible()
    tab_to(visitor, slider)
    before = lesson(visitor).locator(".sol-learn-bars").first.inner_text()
    keys.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "70 %")
    assert lesson(visitor).locator(".sol-learn-bars").first.inner_text() != before

    # The answer is kept in the browser; the measurement is the server's.
    visitor.page.reload()
    expect(visitor.page.get_by_role("link", name="Attention pages done")).to_be_visible()
    expect(lesson(visitor).locator(".sol-option.is-chosen")).to_contain_text("answered")
    expect(lesson(visitor).get_by_role("slider", name="Attention kept")).to_be_visible()
    visitor.page.go_back()
    expect(lesson(visitor).get_by_role("heading", level=2)).to_have_text("4. Channels")


def test_both_ways_of_choosing_pages_are_shown_side_by_side(
    serve: Serve, visit: Visit, tmp_path: Path
) -> None:
    go = threading.Event()
    go.set()
    visitor = visit(serve_tiny(serve, tmp_path, go))
    visitor.page.goto(f"{visitor.url}?lesson=which")
    shown = lesson(visitor)
    expect(shown.get_by_role("heading", level=2)).to_have_text("5. Which pages, not how many")
    shown.get_by_role("radio", name="Less than a third").check(force=True)
    shown.get_by_role("button", name="Commit and measure").click()
    pages, mlp = (shown.locator("section.sol-learn-part").nth(at) for at in (0, 1))
    sentence = pages.locator("p[role=status]")
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


def pages_drawn(drawing: Locator, layers: int, cells: int) -> list[list[tuple[int, ...]]]:
    """Colours in the middle of every page of every layer; sizes are those of zooms.js."""
    found = drawing.locator("canvas").evaluate(
        """(canvas, [layers, cells]) => {
          const brush = canvas.getContext("2d");
          const left = canvas.width < 520 ? 108 : 250;
          const width = (canvas.width - left - 58) / layers;
          const height = (canvas.height - 16) / cells;
          const numbers = (count) => Array.from({ length: count }, (_, at) => at + 0.4);
          return numbers(layers).map((layer) => numbers(cells).map((cell) =>
            [...brush.getImageData(left + layer * width, 16 + cell * height, 1, 1).data]));
        }""",
        [layers, cells],
    )
    return [[tuple(pixel[:3]) for pixel in layer] for layer in found]


def colours(drawing: Locator, levels: list[list[int]], cells: int) -> dict[int, set[Any]]:
    """Of the pages that were read at each level; they fade in."""
    return by_level(levels, pages_drawn(drawing, len(levels), cells))


def ends(drawing: Locator, levels: list[list[int]], cells: int) -> tuple[Any, Any]:
    """Colours of dark and of lit pages; None where no page is lit."""
    found = colours(drawing, levels, cells)
    return found[0], found.get(3)


@pytest.mark.parametrize(("scheme", "palette"), [("light", LIGHT), ("dark", DARK)])
def test_the_machine_of_a_lesson_shows_which_pages_the_chosen_step_read(
    serve: Serve, visit: Visit, tmp_path: Path, scheme: str, palette: Palette
) -> None:
    go = threading.Event()
    go.set()
    server = serve_tiny(serve, tmp_path, go)
    visitor = visit(server, color_scheme=scheme)
    commit(visitor, "pages")
    found = server.services.experiments.ask("c" * 32, "pages", {"text": "lighthouse"})["result"]
    level, step = (
        lesson(visitor).get_by_role("slider", name=name) for name in ("Attention kept", "Step")
    )
    dark, lit = (tuple(map(round, Rgb.parse(one))) for one in (palette.track, palette.attention))
    level.press("ArrowRight")
    step.press("Home")
    for place in (0, 1):
        expect(step).to_have_attribute("aria-valuetext", re.compile(f", {place + 1} of 32$"))
        reads = found["reads"][1][place]
        levels = levels_of(reads["levels"], reads["cells"], LAYERS)
        readers = sum(layer[0] > 0 for layer in levels)
        expect(machine(visitor)).to_have_attribute(
            "aria-label",
            re.compile(f" of {reads['pages']} pages read in each layer.*“Mira Oka”: read in "
                       f"{readers} of {LAYERS} layers"),
        )  # fmt: skip
        drawn = machine(visitor), levels, reads["cells"]
        lit_ones = {lit} if any(3 in layer for layer in levels) else None
        comes_to(partial(ends, *drawn), ({dark}, lit_ones))
        assert all(len(one) == 1 for one in colours(*drawn).values())
        step.press("ArrowRight")
    # A click on a word of the passage chooses its step.
    lesson(visitor).locator(".sol-learn-token").nth(9).click()
    expect(step).to_have_attribute("aria-valuetext", re.compile(", 10 of 32$"))
    expect(lesson(visitor).locator(".sol-learn-token.is-chosen")).to_have_count(1)
    assert list(violations(visitor.page)) == []
    assert visitor.overflows(390, 1440) == []


def test_channels_and_bits_are_drawn_as_they_were_chosen(
    serve: Serve, visit: Visit, tmp_path: Path
) -> None:
    go = threading.Event()
    go.set()
    visitor = visit(serve_tiny(serve, tmp_path, go))
    commit(visitor, "channels")
    expect(machine(visitor)).to_have_attribute(
        "aria-label", re.compile("40 % of the MLP's input channels and 100 % of its inner ones")
    )
    lesson(visitor).get_by_role("slider").press("End")
    expect(machine(visitor)).to_have_attribute("aria-label", re.compile("100 % of its bytes"))
    commit(visitor, "bits")
    expect(machine(visitor)).to_have_attribute("aria-label", re.compile("5 of 16 bits: .* of 31"))
    lesson(visitor).get_by_role("slider").press("End")
    expect(machine(visitor)).to_have_attribute("aria-label", re.compile("All 16 bits"))
    commit(visitor, "which")
    expect(machine(visitor)).to_have_count(4)
    labels = [one.get_attribute("aria-label") for one in machine(visitor).all()]
    assert len(set(labels)) == 4
    lesson(visitor).get_by_role("radio", name="40 %").check(force=True)
    expect(machine(visitor).first).not_to_have_attribute("aria-label", str(labels[0]))


def test_lessons_say_what_their_numbers_mean(serve: Serve, visit: Visit, tmp_path: Path) -> None:
    """Why time falls less than bytes, what the line's end is, and whose total is compared."""
    go = threading.Event()
    go.set()
    server = serve_tiny(serve, tmp_path, go)
    visitor = visit(server)

    def measured(name: str, text: str) -> dict[str, Any]:
        shown = lesson(visitor)
        visitor.page.goto(f"{visitor.url}?lesson={name}")
        shown.get_by_role("radio").first.check(force=True)
        shown.get_by_role("button", name="Commit and measure").click()
        expect(shown.locator(".sol-learn-figure")).to_be_visible(timeout=WARM_UP_MS)
        experiment = {"spend": "spenders"}.get(name, name)
        answer = server.services.experiments.ask("c" * 32, experiment, {"text": text})
        return dict(answer["result"])

    parts = measured("steps", "keeper")["parts"]
    table = lesson(visitor).get_by_role("region", name="Bytes and times of a step")
    whole = table.get_by_role("row", name="Whole step")
    assert parts["least"]["bytes"]["head"] == parts["dense"]["bytes"]["head"]
    read = [sum(parts[one]["bytes"].values()) for one in ("dense", "least")]
    expect(whole.get_by_role("cell")).to_have_count(4)
    expect(lesson(visitor)).to_contain_text(f"reads {100 * read[1] / read[0]:.0f} % of the bytes")

    found = measured("channels", "capital")
    lowest = found["rows"][0]["kl"]
    ending = re.compile(f"At 40 %, the lowest level there is, KL is {lowest:.3f} nats; at 70 % it")
    expect(lesson(visitor)).to_contain_text(ending)
    scale = lesson(visitor).locator(".sol-learn-axis > span").first
    top = max(row["kl"] for row in found["rows"])
    expect(scale).to_have_text(f"{top:.3g} nats" if top > 1 else "1 nat")

    measured("spend", "comet")
    expect(lesson(visitor)).to_contain_text("Asked for: 50 %. Levels are steps of 5 %")


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
