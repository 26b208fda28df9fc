"""Explore's quality chart, measure by measure, and the numbers of its form."""

import re

import pytest
from playwright.sync_api import expect

from app.results.shipped import shipped_recording
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from tests.browser.conftest import comes_to
from tests.support.fake_engine import FakeEngine, make_token

pytestmark = pytest.mark.browser
DENSE_BESIDE = GenerationConfig(side_rows=(SideRowConfig("dense", ScheduleConfig("dense")),))


# Where dense would have chosen another token, and the share that it chose up to there.
OTHERS = """(plot) => { const { x, customdata } = plot.data.find(({ meta }) => meta === "other");
  return [x, customdata]; }"""


def quality(visitor):
    """The panel of the quality chart, drawn to the last token."""
    panel = visitor.chart(1)
    expect(panel.locator(".sol-plot .main-svg").first).to_be_attached()
    count = visitor.tokens.count()
    comes_to(lambda: max(map(len, lines(panel).values())), count)
    return panel


def lines(panel):
    """What the chart draws, by the lines' names."""
    return panel.locator(".sol-plot").evaluate(
        "(plot) => Object.fromEntries(plot.data.map((line) => [line.meta, line.y]))"
    )


def keys(panel):
    return [key.inner_text() for key in panel.locator(".sol-key").all() if key.is_visible()]


def measure(visitor):
    return visitor.page.get_by_label("Quality: measure").first


def after_forty_tokens(serve, visit):
    """A visitor with a finished run, and its quality chart."""
    visitor = visit(serve())
    visitor.answer(max_new_tokens=40)
    return visitor, quality(visitor)


def test_the_quality_chart_says_kl_and_how_often_denses_choice_is_kept(serve, visit):
    visitor, panel = after_forty_tokens(serve, visit)
    expect(measure(visitor)).to_have_value("dense")
    assert keys(panel) == ["KL to the full model", "Mean so far", "Not the full model's choice"]
    drawn = lines(panel)
    assert list(drawn) == ["kl", "klMean", "other"]
    tokens = [make_token(at, "", DENSE_BESIDE).kl_to_dense or 0.0 for at in range(40)]
    assert drawn["kl"] == pytest.approx(tokens)
    assert drawn["klMean"][-1] == pytest.approx(sum(tokens) / 40)
    # The sentence counts them and dots them.
    others, kept = panel.locator(".sol-plot").evaluate(OTHERS)
    assert others == [4, 11, 18, 25, 32, 39]
    assert kept == pytest.approx([100 * (1 - (at + 1) / n) for at, n in enumerate(others)])
    expect(visitor.page.locator(".sol-lines .is-other")).to_have_count(6)
    assert drawn["other"] == pytest.approx([tokens[at - 1] for at in others])
    assert panel.locator(".sol-plot").evaluate("(plot) => plot._fullLayout.yaxis.range[0]") == 0
    panel.get_by_role("button", name="KL to the full model", exact=True).click()
    visible = "(plot) => plot.data.filter((line) => line.visible).map((line) => line.meta)"
    comes_to(lambda: panel.locator(".sol-plot").evaluate(visible), ["klMean", "other"])


def test_a_number_out_of_range_is_named_in_the_forms_words_and_not_kept(serve, visit):
    server = serve()
    visitor = visit(server)
    box = visitor.page.get_by_label("Attention kept, value")
    visitor.show_axes()
    box.fill("40")
    box.fill("400")
    expect(box).to_have_attribute("aria-invalid", "true")
    visitor.page.get_by_role("button", name="Generate").click()
    said = visitor.page.get_by_role("alert").filter(has_text="Attention kept")
    expect(said).to_have_text(["Attention kept: 5 to 100 %"] * 2)  # by the button, at the box
    expect(box).to_be_focused()
    assert server.services.store.runs.list() == []
    box.fill("60")
    expect(box).to_have_attribute("aria-invalid", "false")
    expect(said).to_have_count(0)
    box.fill("")
    visitor.set_advanced("Top-k", "-3")
    visitor.page.reload()
    expect(visitor.page.get_by_label("Attention kept", exact=True)).to_have_value("60")
    expect(visitor.page.get_by_label("Top-k", exact=True)).to_have_value("0")
    # A dense run has no budget, whatever stands there.
    box.fill("1")
    visitor.page.get_by_role("radio", name="Full model", exact=True).check(force=True)
    visitor.answer(max_new_tokens=4)


def dial(visitor):
    """The form's; the recording has one, too."""
    return visitor.page.locator(".sol-dial").get_by_role("slider", name="Compute", exact=True)


def test_one_dial_asks_for_a_share_of_the_bytes_and_shows_its_mix(serve, visit):
    server = serve()
    visitor = visit(server)
    share = visitor.page.locator(".sol-dial-share")
    words = visitor.page.locator(".sol-dial .sol-hint").first
    visitor.prompt.fill("Why is the sky blue?")
    expect(words).to_contain_text("After about 70 tokens")
    usual = int(dial(visitor).input_value())
    assert 90 < usual < 100
    # It stands where the text stays the full model's, which depends on the prompt's length.
    visitor.prompt.fill("A tale of ships. " * 400)
    expect(words).to_contain_text("After about 1,765 tokens")
    expect(share).not_to_have_text(f"{usual} %")
    dial(visitor).fill("80")
    expect(share).to_have_text("80 %")
    expect(dial(visitor)).to_have_attribute("aria-valuetext", re.compile("80 %: 15 % attention"))
    visitor.page.reload()
    expect(dial(visitor)).to_have_value("80")
    visitor.answer(max_new_tokens=4)
    asked = server.services.store.runs.list()[0].config["schedule"]["budget"]
    assert asked["bytes_share"] == 0.8
    expect(visitor.page.locator(".sol-sentence")).to_contain_text("(budget: 80 %)")
    # So little cannot be read after a short prompt: the least is.
    dial(visitor).fill("50")
    visitor.prompt.fill("Why is the sky blue?")
    expect(share).to_have_text("53 %")


def test_a_prompt_comes_from_a_file_too(serve, visit, tmp_path):
    visitor = visit(serve(FakeEngine()))
    panel = visitor.page.locator("form:visible")
    picker, prompt = panel.get_by_label("Choose a file…"), panel.get_by_label("Prompt")
    text, bad = tmp_path / "long.txt", tmp_path / "bad.bin"
    text.write_text("A tale <b>of ships.\n" * 400, "utf-8")
    picker.set_input_files(text)
    expect(prompt).to_have_value("A tale <b>of ships.\n" * 400)
    bad.write_bytes(b"\xff\xfe\0")
    picker.set_input_files(bad)
    expect(panel.get_by_text("bad.bin is not UTF-8 text.")).to_be_visible()
    expect(prompt).to_have_value("A tale <b>of ships.\n" * 400)
    bad.write_bytes(b"x" * 4_000_001)
    picker.set_input_files(bad)
    expect(panel.get_by_text("bad.bin is larger than 4.00 MB.")).to_be_visible()


RECORDING = shipped_recording()
TEXTS = RECORDING["texts"]


def whole_answers(text):
    """Per question, whether the answer is the full model's."""
    pairs = zip(text["answers"], TEXTS[0]["answers"], strict=True)
    return [one["tokens"] == dense["tokens"] for one, dense in pairs]


def test_the_recording_shows_which_answer_breaks_first_and_it_runs_here(serve, visit):
    opens = max(at for at, text in enumerate(TEXTS) if all(whole_answers(text)))
    parted, least = TEXTS[opens + 1], TEXTS[-1]
    visitor = visit(serve(FakeEngine(step_s=0.001)))
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
    expect(dial(visitor)).to_have_value(str(round(100 * TEXTS[1]["asked"])))
