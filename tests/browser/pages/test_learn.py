"""A lesson with the keyboard alone, what is kept of it, and the glossary's explanations."""

import re
import threading

import pytest
from playwright.sync_api import expect

from app.host.paths import DataDir
from app.lessons import experiment_queue
from app.web.assets import module_url
from app.web.services import engine_run
from tests.browser.conftest import WARM_UP_MS, comes_to
from tests.support.fake_engine import FakeEngine
from tests.support.tiny_language_model import make_long_model

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]


def serve_tiny(serve, tmp_path, go=None):
    """The real engine over a tiny model, which is loaded when ``go`` is set."""
    model = make_long_model("fake-model")

    def load(on_progress):
        on_progress("Loading", 0.4)
        assert go is None or go.wait(60)
        return model

    return serve(engine_run(DataDir(tmp_path)), load=load)


def lesson(visitor):
    return visitor.page.locator(".sol-lesson:visible")


def machine(visitor):
    """The drawings that a lesson zooms to, described in words."""
    return lesson(visitor).get_by_role("img", name=re.compile("^The machine: "))


def commit(visitor, address):
    """Open a lesson, guess, and wait for what is measured."""
    visitor.page.goto(f"{visitor.url}?lesson={address}")
    lesson(visitor).get_by_role("radio").first.check(force=True)
    expect(machine(visitor)).to_have_count(0)
    lesson(visitor).get_by_role("button", name="Commit and measure").click()
    expect(machine(visitor).first).to_be_visible(timeout=WARM_UP_MS)


def tab_to(visitor, locator, most=40):
    for _ in range(most):
        visitor.page.keyboard.press("Tab")
        if locator.evaluate("(node) => node === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {locator}")


def test_a_lesson_by_keyboard_begun_before_the_model_is_there(serve, visit, tmp_path):
    go = threading.Event()
    visitor = visit(serve_tiny(serve, tmp_path, go))
    page, keys = visitor.page, visitor.page.keyboard
    page.goto(f"{visitor.url}?lesson=channels")
    heading = lesson(visitor).get_by_role("heading", level=2)
    expect(heading).to_have_text("5. Channels")
    page.get_by_role("link", name="Attention pages").focus()
    keys.press("Enter")
    expect(heading).to_have_text("3. Attention pages")
    expect(heading).to_be_focused()
    expect(page).to_have_url(re.compile("lesson=pages"))

    # A word of the glossary, on the way to the question.
    tip = page.get_by_role("tooltip").filter(visible=True)
    keys.press("Tab")
    expect(tip).to_contain_text("Attention: The part of a layer that looks back")
    term = lesson(visitor).get_by_role("button", name="Attention", exact=True)
    expect(term).to_have_accessible_description(re.compile("^Attention: The part of a layer"))
    keys.press("Escape")
    expect(tip).to_have_count(0)

    commit = lesson(visitor).get_by_role("button", name="Commit and measure")
    expect(commit).to_be_disabled()
    tab_to(visitor, lesson(visitor).get_by_role("radio").first)
    keys.press("ArrowDown")
    tab_to(visitor, commit)
    keys.press("Enter")
    # Nothing of an answer is there before it is measured, and the lesson is not done.
    expect(lesson(visitor)).to_contain_text("The model is still loading (40 %)")
    done = page.get_by_role("link", name="Attention pages done")
    expect(done).to_have_count(0)
    expect(machine(visitor)).to_have_count(0)
    go.set()
    slider = lesson(visitor).get_by_role("slider", name="Attention kept")
    expect(slider).to_have_attribute("aria-valuetext", "10 %", timeout=WARM_UP_MS)
    expect(lesson(visitor)).to_contain_text(re.compile("(As|Not as) you guessed"))
    expect(lesson(visitor)).to_contain_text("Measured on fake-model")
    expect(done).to_be_visible()
    before = lesson(visitor).locator(".sol-learn-bars").first.inner_text()
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "70 %")
    assert lesson(visitor).locator(".sol-learn-bars").first.inner_text() != before

    # The answer is kept in the browser; the measurement is the server's.
    page.reload()
    expect(done).to_be_visible()
    expect(lesson(visitor).locator(".sol-option.is-chosen")).to_contain_text("asked")
    expect(slider).to_be_visible()
    page.go_back()
    expect(heading).to_have_text("5. Channels")


def test_a_lesson_that_is_left_is_not_measured_and_one_that_waits_can_be_cancelled(
    serve, visit, monkeypatch
):
    monkeypatch.setattr(experiment_queue, "ABANDONED_S", 1.5)
    engine = FakeEngine(pause_at=2)
    server = serve(engine)
    visitor = visit(server)
    visitor.open()
    visitor.generate("x", max_new_tokens=5)
    expect(visitor.tokens.nth(1)).to_be_visible()
    experiments = server.services.experiments
    visitor.page.goto(f"{visitor.url}?lesson=pages")
    lesson(visitor).get_by_role("radio").first.check(force=True)
    lesson(visitor).get_by_role("button", name="Commit and measure").click()
    state = lesson(visitor).locator(".sol-learn-state")
    expect(state).to_have_text("Waiting: 1 before you.")
    cancel = lesson(visitor).get_by_role("button", name="Cancel", exact=True)
    cancel.click()
    expect(lesson(visitor).get_by_role("alert")).to_have_text("Cancelled. Nothing is measured.")
    expect(cancel).to_be_hidden()
    lesson(visitor).get_by_role("button", name="Measure again").click()
    expect(state).to_have_text("Waiting: 1 before you.")
    visitor.tab("Inspect")  # nobody asks about it any more
    comes_to(lambda: [one.is_abandoned for one in experiments._waiting.values()], [True])
    engine.resume.set()
    comes_to(lambda: (len(experiments._waiting), len(experiments._ended)), (0, 0))
    visitor.tab("Learn")  # and it goes on when it is on show again
    expect(lesson(visitor)).to_contain_text(re.compile("Measuring|Waiting|has no tokenizer"))


def test_the_first_step_is_done_once_the_dial_was_turned(serve, visit):
    visitor = visit(serve(FakeEngine()))
    visitor.page.goto(visitor.url)
    visitor.tab("Learn")
    step = visitor.page.get_by_role("link", name="The dial")
    expect(step).not_to_contain_text("done")
    lesson(visitor).get_by_role("button", name="Open the dial").click()
    visitor.page.locator(".sol-recording input[type=range]").press("ArrowLeft")
    visitor.tab("Learn")
    expect(step).to_contain_text("done")


# The picture of a page taken away, with three pages; each part's width as a share of its place's.
WIDTHS = f"""async (lesson) => {{
  const address = new URL("{module_url("learn/lessons_attention.js")}", document.baseURI);
  const draw = (await import(address)).LESSON_MISSING.picture();
  const picture = Object.assign(document.createElement("div"), {{ className: "sol-learn-parts" }});
  lesson.append(picture);
  const row = {{ text: "is called Juniper", said: "the", changed: true, attention: 0.1, kl: 1 }};
  picture.append(...draw({{ rows: [row, row, row], question: "What is its name?",
    stem: "It is called", said: "Jun", correlation: 0.5, probability: 0.9 }}));
  return [...picture.querySelector("section").children]
    .map((part) => part.clientWidth / part.parentElement.clientWidth);
}}"""


def test_parts_of_a_picture_lie_one_below_the_other(serve, visit):
    visitor = visit(serve())
    visitor.page.goto(f"{visitor.url}?lesson=missing")
    widths = lesson(visitor).evaluate(WIDTHS)
    assert len(widths) == 6
    assert min(widths) > 0.95
