"""The recording that Explore opens with."""

import re

import pytest
from playwright.sync_api import expect

from app.results.shipped import shipped_recording
from sol_core.actions import Budget
from sol_core.config import GenerationConfig
from sol_core.fields import from_json
from sol_core.models import tuning
from tests.app.recordings.recorder import answer_config
from tests.support.fake_engine import FAKE_MODEL, FakeEngine

pytestmark = pytest.mark.browser


RECORDING = shipped_recording("float32")  # the stand-in model's
TEXTS = RECORDING["texts"]


def whole_answers(text):
    """Per question, whether the answer is the full model's."""
    pairs = zip(text["answers"], TEXTS[0]["answers"], strict=True)
    return [one["tokens"] == dense["tokens"] for one, dense in pairs]


def test_the_recording_shows_which_answer_breaks_first_and_it_runs_here(serve, visit):
    opens = max(at for at, text in enumerate(TEXTS) if all(whole_answers(text)))
    parted, least = TEXTS[opens + 1], TEXTS[-1]
    server = serve(FakeEngine(step_s=0.001))
    visitor = visit(server)
    recording = visitor.page.get_by_role("region", name="Recorded example")
    answers = recording.locator(".sol-recording-text")
    slider = recording.get_by_role("slider", name="Compute")
    expect(recording).to_contain_text("all three answers survive")
    expect(recording.locator(".is-coming")).to_have_count(0)  # it has played to its end
    expect(recording.locator(".sol-page[data-read]").first).to_be_visible()
    expect(recording.locator(".sol-page.is-fact")).to_be_visible()
    slider.press("ArrowLeft")
    whole = whole_answers(parted)
    which = whole.index(False)
    answer, dense = parted["answers"][which], TEXTS[0]["answers"][which]
    wrong = ("one of three answers is", "two of three answers are", "all three answers are")
    expect(recording).to_contain_text(f"{wrong[whole.count(False) - 1]} wrong")
    words = "".join(answers.nth(which).locator(".sol-token").all_text_contents())
    assert words.replace("\xa0", " ") == "".join(answer["tokens"])
    expect(answers.nth(which).locator(".is-parting")).to_have_count(1)
    expect(recording).to_contain_text(f"Full model:{''.join(dense['tokens'])}")
    fact = RECORDING["pages"][RECORDING["questions"][which]["fact"]].strip()
    said = f"The full model's “{''.join(dense['tokens']).strip()}” needs “{fact}”. "
    expect(recording).to_contain_text(said)
    expect(answers.nth(which).locator(".is-picked")).to_have_count(1)
    slider.press("Home")
    share = recording.locator(".sol-recording-share")
    expect(share).to_have_text(f"{round(100 * least['asked'])} %")
    slider.press("ArrowRight")
    keep, channels, bits = (f"{value:g}" for value in TEXTS[-2]["spend"])
    mix = re.compile(f": {keep} % attention · {channels} % MLP · {bits} bits$")
    expect(slider).to_have_attribute("aria-valuetext", mix)
    slider.press("End")
    expect(recording).to_contain_text("The full model reads the whole story")

    slider.press("ArrowLeft")
    mark = recording.locator(".sol-recording-mark")
    expect(mark).to_have_text("recorded")
    recording.get_by_role("button", name="Run it here").click()
    expect(mark).to_have_text("live, on this machine")
    shown = recording.locator(".sol-recording-text .sol-token").all_text_contents()
    assert shown[0].strip("\xa0") == "the"  # of the stand-in model
    runs = server.services.store.runs.list(owner=None, limit=10)
    asked = [from_json(GenerationConfig, run.config) for run in runs]
    assert len(runs) == 6  # three questions, in full and at this stop
    assert all(run.prompt.startswith(RECORDING["story"]) for run in runs)
    assert asked.count(answer_config(Budget.share(TEXTS[1]["asked"]))) == 3
    slider.press("End")
    expect(mark).to_have_text("live, on this machine")
    slider.press("Home")
    expect(recording).to_contain_text("running here")
    expect(mark).to_have_text("live, on this machine")
    assert len(server.services.store.runs.list(owner=None, limit=20)) == 9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_recording_is_that_of_the_models_format_and_says_where_it_was_made(
    serve, visit, monkeypatch, dtype
):
    """Whichever the page was served with."""
    monkeypatch.setattr(FAKE_MODEL, "dtype_name", dtype)
    recording = shipped_recording(dtype)
    maker = "AMD EPYC" if "AMD" in recording["machine"] else "Intel Xeon"
    made = f"Measured on another machine ({maker}, {dtype})."
    monkeypatch.setattr(tuning, "machine_name", lambda: recording["machine"])
    shown = visit(serve()).page.get_by_role("region", name="Recorded example")
    slider = shown.get_by_role("slider", name="Compute")
    expect(slider).to_have_attribute("min", f"{100 * recording['texts'][-1]['asked']:.0f}")
    expect(shown).to_contain_text("all three answers survive")
    expect(shown.get_by_text("Measured on another machine")).to_be_hidden()
    monkeypatch.setattr(tuning, "machine_name", lambda: "another CPU")
    shown = visit(serve(folder="elsewhere")).page.get_by_role("region", name="Recorded example")
    expect(shown.get_by_text(made)).to_be_visible()
