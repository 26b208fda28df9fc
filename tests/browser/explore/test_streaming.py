"""A run from the button to the last token: streaming, stopping, reloading, hostile text, lag."""

import re
import threading

import pytest
from playwright.sync_api import expect

from sol_core.errors import ModelLoadError
from tests.browser.conftest import ENDED, comes_to
from tests.support.fake_engine import FAKE_MODEL, FakeEngine

SAID = (
    "Another answer. The full model disagrees with 6 of 40 tokens (dotted). "
    "It parts ways at token 4, preferring “dense” (50 %) to “calm” (11 %)."
)
SPENT = re.compile(
    r"^Compute: \d+\s% of the full model \(target: \d+\s%\) · "
    r"[\d.]+\stokens/s with the check · KL 0\.0\d\d\snats · forecast was: same text$"
)
pytestmark = pytest.mark.browser
HOSTILE = [
    "${7*7}",
    "`",
    "{{7*7}}",
    '<img src=x onerror="window.hacked=1">',
    "<script>window.hacked=1</script>",
    "&amp;&#60;",
    "\\u0041\\n",
    " </div>",
    "\n",
    "\t",
    "\r",
    "",
    "\U0001f469\u200d\U0001f680",
    "\u202eevil",
    "\u0645\u0631\u062d\u0628\u0627",
    "\x00\x1b[31m",
    "\u2028",
    "a\u0301\u0302\u0303\u0304",
    "x" * 300,
    "  ",
    "\u4f60\u597d",
]


def test_generate_streams_tokens_and_reports_what_was_measured(serve, visit):
    visitor = visit(serve())
    page = visitor.page
    visitor.expect_state("Ready")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    visitor.answer(max_new_tokens=40)
    expect(visitor.tokens).to_have_count(40)
    visitor.expect_state("Cut off at 40 tokens")
    expect(page.locator(".sol-sentence")).to_have_text(SAID)
    expect(page.locator(".sol-outcome-line > .sol-muted")).to_have_text(SPENT)
    visitor.show_numbers()
    expect(page.locator(".sol-numbers")).to_contain_text("/ 16")
    # Of the times that the stand-in engine reports.
    parts = page.get_by_role("group", name="Measured time by part").locator("tbody tr")
    times = parts.locator("td:nth-of-type(1)")
    expect(times).to_have_text(["3.50 ms", "3.50 ms", "2.00 ms", "0.40 ms", "0.60 ms"])
    expect(parts.last).to_contain_text("not counted")
    expect(page.locator(".sol-numbers")).to_contain_text("prompt tokens read in")
    expect(visitor.chart(0).locator(".sol-plot svg").first).to_be_attached()
    label = visitor.tokens.nth(1).get_attribute("aria-label") or ""
    assert "sea" in label
    assert "surprisal" in label
    page.reload()
    expect(page.locator(".sol-outcome-line > .sol-muted")).to_have_text(SPENT)
    page.get_by_role("button", name="Continue", exact=True).click()
    visitor.expect_state("Cut off at 80 tokens")
    expect(visitor.tokens).to_have_count(80)


def test_focus_goes_from_generate_to_stop_to_the_answer(serve, visit):
    visitor = visit(serve(FakeEngine(step_s=0.05)))
    page = visitor.page
    visitor.unfold()
    visitor.prompt.fill("Who asks?")
    visitor.prompt.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    expect(visitor.tokens.nth(2)).to_be_visible()
    page.keyboard.press("Enter")
    visitor.expect_state("Stopped")
    expect(visitor.tokens.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="What if?")).to_be_visible()
    page.keyboard.press("Escape")
    expect(visitor.tokens.first).to_be_focused()


def test_hostile_tokens_are_only_ever_text(serve, visit):
    server = serve(FakeEngine(HOSTILE, step_s=0.005, repeat=False))
    visitor = visit(server)
    visitor.answer('<img src=x onerror="window.hacked=1"> ${1+1} {{1+1}}')
    shown = visitor.texts()
    assert len(shown) == len(HOSTILE)
    for text, seen in zip(HOSTILE, shown, strict=True):
        if text.isprintable() and text and "\u200d" not in text:
            assert seen.replace("\u00a0", " ") == text
    for text, glyph in (("\n", "↵"), ("\t", "⇥"), ("", "◌"), ("\u202eevil", "U+202Eevil")):
        assert shown[HOSTILE.index(text)] == glyph
    expect(visitor.page.locator(".sol-question-asked")).to_contain_text("${1+1} {{1+1}}")
    machine = visitor.page.locator(".sol-machine-caption")
    for index in range(len(HOSTILE)):
        visitor.tokens.nth(index).focus()
        expect(visitor.card).to_be_visible()
        expect(machine).to_have_text(re.compile(rf"^Token {index + 1} ."))
    assert (
        visitor.page.locator(":is(.sol-lines, .sol-question-asked, .sol-machine) img").count() == 0
    )
    visitor.tab("History")
    expect(visitor.page.get_by_role("link", name="${1+1} {{1+1}}")).to_be_visible()
    assert visitor.page.evaluate("window.hacked") is None
    visitor.tab("Explore")
    visitor.page.reload()
    expect(visitor.tokens).to_have_count(len(HOSTILE))
    assert visitor.texts() == shown


def test_copying_gives_the_models_text_not_the_glyphs(serve, visit):
    visitor = visit(serve(FakeEngine(["One", " two", "\n", "\tthree"], repeat=False)))
    visitor.answer()
    visitor.page.evaluate("getSelection().selectAllChildren(document.querySelector('.sol-lines'))")
    visitor.page.keyboard.press("Control+c")
    assert visitor.page.evaluate("navigator.clipboard.readText()") == "One two\n\tthree"
    visitor.page.evaluate("navigator.clipboard.writeText('')")
    visitor.page.get_by_role("button", name="Export").click()
    visitor.page.get_by_role("button", name="Copy text").click()
    comes_to(lambda: visitor.page.evaluate("navigator.clipboard.readText()"), "One two\n\tthree")


def test_stop_ends_the_run_at_once_and_keeps_what_there_is(serve, visit):
    server = serve(FakeEngine(step_s=0.03))
    visitor = visit(server)
    visitor.generate(max_new_tokens=2000)
    expect(visitor.tokens.nth(10)).to_be_visible()
    expect(visitor.page.get_by_role("button", name="Generate")).to_be_disabled()
    stop = visitor.page.get_by_role("button", name="Stop")
    expect(stop).to_be_enabled()
    stop.click()
    visitor.expect_state("Stopped")
    count = visitor.tokens.count()
    assert 10 < count < 200
    visitor.page.wait_for_timeout(300)
    assert visitor.tokens.count() == count
    expect(visitor.page.get_by_role("button", name="Generate")).to_be_enabled()
    expect(stop).to_be_disabled()


def test_a_reload_takes_up_the_running_generation(serve, visit):
    engine = FakeEngine(step_s=0.02, pause_at=60)
    visitor = visit(serve(engine))
    visitor.generate("Keep this prompt", max_new_tokens=120)
    expect(visitor.tokens.nth(20)).to_be_visible()
    before = visitor.texts()[:20]
    visitor.page.reload()
    expect(visitor.tokens.nth(30)).to_be_visible()
    assert visitor.texts()[:20] == before
    expect(visitor.prompt).to_have_value("Keep this prompt")
    # Also from the bare address: the server knows which run is this visitor's.
    visitor.open()
    visitor.expect_state("Generating")
    engine.resume.set()
    visitor.expect_state(ENDED)
    expect(visitor.tokens).to_have_count(120)


def test_two_visitors_do_not_see_each_others_unfinished_runs(serve, visit):
    engine = FakeEngine(pause_at=20)
    server = serve(engine)
    anna, ben = visit(server), visit(server)
    anna.generate("Anna's secret", max_new_tokens=150)
    expect(anna.tokens.nth(5)).to_be_visible()
    ben.open(f"?run={anna.run_id()}")
    expect(ben.page.locator(".sol-status")).to_contain_text("do not have access")
    assert ben.tokens.count() == 0
    ben.tab("History")
    expect(ben.page.get_by_text("Nothing yet.")).to_be_visible()
    ben.tab("Explore")
    ben.generate("Ben's", max_new_tokens=10)
    ben.expect_state("Waiting")
    status = ben.page.locator(".sol-status")
    expect(status).to_contain_text("Another visitor or tab is using the model. You are next.")
    expect(status.get_by_role("status").first).to_have_text(
        "Waiting. Another visitor or tab is using the model. You are next."
    )
    for part in (".sol-legend", ".sol-token-foot", ".sol-numbers"):
        expect(ben.page.locator(f".sol-alone {part}")).to_be_hidden()
    engine.resume.set()
    for visitor in (anna, ben):
        visitor.expect_state(ENDED)


def test_the_page_is_there_before_the_model_and_a_run_waits_for_it(serve, visit):
    gates = [threading.Event(), threading.Event()]
    attempts = iter(gates)

    def load(on_progress):
        gate = next(attempts)
        on_progress("Downloading the model", 0.34)
        gate.wait(30)
        if gate is gates[0]:
            raise ModelLoadError("model.safetensors is truncated: delete it and start again")
        return FAKE_MODEL

    visitor = visit(serve(load=load))
    visitor.expect_state("Loading the model")
    gates[0].set()
    visitor.expect_state("No model")
    expect(visitor.page.get_by_role("alert").filter(has_text="is truncated")).to_be_visible()
    visitor.page.get_by_role("button", name="Try again").click()
    expect(visitor.page.locator(".sol-status")).to_contain_text("Downloading the model · 34 %")
    visitor.generate(max_new_tokens=10)
    visitor.expect_state("Waiting for the model")
    gates[1].set()
    visitor.expect_state(ENDED)
