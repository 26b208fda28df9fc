"""Explore opens with a recording: dense beside less and less, and a way to run it for real."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from app.recordings.recording import shipped_recording
from tests.app.recordings.recorder import RecordedStep
from tests.browser.conftest import Server, Visitor
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser

TEXTS = shipped_recording()["texts"]
_SAME = TEXTS[-1]["same"]
# Of the text that reads least, the first word that is another than dense's.
INSTEAD = "“{}” instead of “{}”".format(*(TEXTS[at]["tokens"][_SAME].strip() for at in (-1, 0)))


OPENS = max(at for at in range(10) if TEXTS[at]["same"] == len(TEXTS[0]["tokens"]))
PARTING = OPENS + 1  # its text is another one than dense's


def lower(dial: Locator) -> None:
    """Turn the dial from where it opens to where a word breaks."""
    for _ in range(OPENS, PARTING):
        dial.press("ArrowLeft")


def _words(column: Locator) -> str:
    return "".join(column.locator(".sol-token").all_text_contents()).replace("\xa0", " ")


def test_the_dial_shows_which_word_breaks_first_and_it_runs_here(
    serve: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    recording = visitor.page.get_by_role("region", name="Recorded example")
    columns = recording.locator(".sol-recording-text")
    dial = recording.get_by_role("slider", name="Compute")
    text, parting = TEXTS[PARTING], TEXTS[PARTING]["same"]
    expect(recording).to_contain_text("the same text as the full model, token for token")
    expect(recording.locator(".is-coming")).to_have_count(0)  # it has played to its end
    lower(dial)
    expect(recording).to_contain_text(f"the first {parting} tokens match the full model")
    assert _words(columns.first) == "".join(TEXTS[0]["tokens"])
    assert _words(columns.nth(1)) == "".join(text["tokens"])
    for column, of in ((columns.nth(1), text), (columns.first, TEXTS[0])):
        expect(column.locator(".is-parting")).to_have_text(of["tokens"][parting].strip())

    dial.focus()
    visitor.page.keyboard.press("End")
    expect(recording.get_by_role("status")).to_have_text("100 %")
    expect(recording.locator(".is-parting")).to_have_count(0)
    assert _words(columns.first) == _words(columns.nth(1))
    visitor.page.keyboard.press("Home")
    expect(recording.get_by_role("status")).to_have_text(f"{round(100 * TEXTS[-1]['share'])} %")
    expect(recording).to_contain_text(INSTEAD)
    visitor.page.keyboard.press("ArrowRight")
    keep, channels, bits = (f"{value:g}" for value in TEXTS[-2]["spend"])
    assert dial.get_attribute("aria-valuetext") == (
        f"{100 * TEXTS[-2]['share']:.1f}".removesuffix(".0")
        + f" % of the full model: {keep} % attention · {channels} % MLP · {bits} bits"
    )

    recording.get_by_role("button", name="Run it here").click()
    visitor.expect_state("Finished")
    expect(recording).to_be_hidden()
    expect(visitor.prompt).to_have_value(shipped_recording()["prompt"])
    expect(visitor.page.get_by_role("slider", name="Compute", exact=True)).to_have_value(
        str(round(100 * TEXTS[-2]["asked"]))
    )
    expect(visitor.page.locator(".sol-legend").first).to_be_visible()


def test_the_machine_shows_where_texts_part_and_any_step_pointed_at(
    serve: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    visitor = visit(serve(), reduced_motion="reduce")
    recording = visitor.page.get_by_role("region", name="Recorded example")
    machine = recording.locator(".sol-zoom")
    recording.get_by_text("Show this step in the model").click()
    lower(recording.get_by_role("slider", name="Compute"))

    def expect_step(text: int, token: int) -> None:
        step = RecordedStep(*TEXTS[text]["steps"][token])
        pages = round(step.share * step.pages)
        expect(machine.locator("p")).to_contain_text(f"The step to token {token + 1} “")
        expect(machine.locator("p")).to_contain_text(f"{pages} of {step.pages} pages read")
        drawing = machine.get_by_role("img")
        expect(drawing).to_have_attribute("aria-label", re.compile(f"{step.bits:g} bits\\.$"))

    expect_step(PARTING, TEXTS[PARTING]["same"])  # where the texts part
    columns = recording.locator(".sol-recording-text")
    columns.nth(1).locator(".sol-token").nth(20).hover()
    expect_step(PARTING, 20)
    columns.first.locator(".sol-token").nth(3).hover()
    expect_step(0, 3)
    recording.get_by_role("slider", name="Compute").press("Home")
    expect_step(9, _SAME)
    lit = machine.locator("canvas").evaluate(
        "(canvas) => new Set(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data).size"
    )
    assert lit > 10  # colours: something is drawn


def test_on_a_phone_the_answer_comes_before_the_form(
    serve: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001)), viewport={"width": 390, "height": 844})
    stage = visitor.page.locator(".sol-explore .sol-tokens")

    def tops() -> list[float]:
        found = [place.bounding_box() for place in (stage, visitor.prompt)]
        return [box["y"] for box in found if box is not None]

    recording, prompt = tops()
    assert recording < prompt
    visitor.generate("The keeper", max_new_tokens=8)
    visitor.expect_state("Finished")
    tokens, prompt = tops()
    assert tokens < prompt
