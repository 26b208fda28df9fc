"""The recording that Explore opens with."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from app.results.shipped import shipped_recording
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
    expect(recording).to_contain_text("all 3 answers are the full model's")
    expect(recording.locator(".is-coming")).to_have_count(0)  # it has played to its end
    expect(recording.locator(".sol-page[data-read]").first).to_be_visible()
    expect(recording.locator(".sol-page.is-fact")).to_be_visible()
    slider.press("ArrowLeft")
    whole = whole_answers(parted)
    which = whole.index(False)
    answer, dense = parted["answers"][which], TEXTS[0]["answers"][which]
    expect(recording).to_contain_text(f"{sum(whole)} of 3 answers are the full model's")
    words = "".join(answers.nth(which).locator(".sol-token").all_text_contents())
    assert words.replace("\xa0", " ") == "".join(answer["tokens"])
    expect(answers.nth(which).locator(".is-parting")).to_have_count(1)
    expect(recording).to_contain_text(f"Full model:{''.join(dense['tokens'])}")
    fact = RECORDING["pages"][RECORDING["questions"][which]["fact"]].strip()
    expect(recording).to_contain_text(f"The page that says it, “{fact}”, was read by")
    slider.press("Home")
    expect(recording.get_by_role("status").first).to_have_text(f"{round(100 * least['share'])} %")
    slider.press("ArrowRight")
    keep, channels, bits = (f"{value:g}" for value in TEXTS[-2]["spend"])
    mix = re.compile(f": {keep} % attention · {channels} % MLP · {bits} bits$")
    expect(slider).to_have_attribute("aria-valuetext", mix)
    slider.press("End")
    expect(recording).to_contain_text("This is the full model")

    slider.press("ArrowLeft")
    recording.get_by_role("button", name="Run it here").click()
    visitor.expect_state("Finished")
    expect(recording).to_be_hidden()
    assert visitor.prompt.input_value().startswith(RECORDING["story"])
    dial = visitor.page.locator(".sol-dial").get_by_role("slider", name="Compute", exact=True)
    expect(dial).to_have_value(str(round(100 * TEXTS[1]["asked"])))
    run = server.services.store.runs.get(visitor.run_id())
    config = from_json(GenerationConfig, run.config)
    assert replace(config, side_rows=()) == answer_config(TEXTS[1]["asked"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_recording_is_that_of_the_models_format_and_says_where_it_was_made(
    serve, visit, monkeypatch, dtype
):
    """Whichever the page was served with."""
    monkeypatch.setattr(FAKE_MODEL, "dtype_name", dtype)
    recording = shipped_recording(dtype)
    made = f"Measured on another machine (Intel Xeon, {dtype})."
    monkeypatch.setattr(tuning, "machine_name", lambda: recording["machine"])
    shown = visit(serve()).page.get_by_role("region", name="Recorded example")
    slider = shown.get_by_role("slider", name="Compute")
    expect(slider).to_have_attribute("max", str(len(recording["texts"]) - 1))
    expect(shown).to_contain_text("all 3 answers are the full model's")
    expect(shown.get_by_text("Measured on another machine")).to_be_hidden()
    monkeypatch.setattr(tuning, "machine_name", lambda: "another CPU")
    shown = visit(serve(folder="elsewhere")).page.get_by_role("region", name="Recorded example")
    expect(shown.get_by_text(made)).to_be_visible()
