"""The default model on every page: real tokens and numbers, reopened as shown."""

import os
import re

import pytest
from playwright.sync_api import expect

from app.host.paths import DataDir
from app.web.services import engine_load, engine_run
from tests.browser.conftest import ENDED, WARM_UP_MS

pytestmark = [pytest.mark.browser, pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def load():
    """Loads the default model once, or the folder that SOL_TEST_MODEL names."""
    data_dir = DataDir.resolve(None)
    data_dir.prepare()
    name = os.environ.get("SOL_TEST_MODEL", "smollm2-135m-instruct")
    model = engine_load(data_dir, name, "auto")(lambda message, fraction: None)
    return lambda on_progress: model


def test_the_real_model_answers_and_every_number_is_real(load, serve, visit):
    visitor = visit(serve(engine_run(DataDir.resolve(None)), load=load))
    visitor.expect_state("Ready")
    visitor.page.get_by_role("radio", name="Full model", exact=True).check(force=True)
    visitor.generate("What is the capital of France? Answer in one sentence.", max_new_tokens=24)
    expect(visitor.page.locator(".sol-state").first).to_have_text(ENDED, timeout=WARM_UP_MS)
    assert "Paris" in "".join(visitor.texts())
    expect(visitor.page.locator(".sol-outcome-line")).to_contain_text("every step reads everything")

    visitor.page.get_by_role("radio", name="Uncertainty (EMC)").check(force=True)
    visitor.page.get_by_text("Set each axis", exact=True).click()
    visitor.page.get_by_label("Attention kept, value").fill("50")
    first = visitor.run_id()
    visitor.generate(max_new_tokens=24)
    visitor.page.wait_for_url(lambda url: f"run={first}" not in url)
    expect(visitor.page.locator(".sol-state").first).to_have_text(ENDED, timeout=WARM_UP_MS)
    expect(visitor.tokens.first).to_be_visible()
    visitor.tokens.nth(2).hover()
    expect(visitor.card).to_contain_text("In the full model")
    expect(visitor.card).not_to_contain_text("not measured")
    expect(visitor.page.locator(".sol-spend-value").first).to_contain_text("/ 50 %")
    shown = visitor.texts()
    labels = [visitor.tokens.nth(at).get_attribute("aria-label") for at in range(len(shown))]
    visitor.page.reload()
    expect(visitor.tokens).to_have_count(len(shown))
    assert visitor.texts() == shown
    assert labels == [
        visitor.tokens.nth(at).get_attribute("aria-label") for at in range(len(shown))
    ]


def test_the_main_path_of_every_page_of_the_model(load, serve, visit):
    """Every room but the Lab's jobs, which have tests of their own."""
    visitor = visit(serve(engine_run(DataDir.resolve(None)), load=load))
    page = visitor.page
    visitor.expect_state("Ready", WARM_UP_MS)

    visitor.tab("Inspect")
    inspect = page.locator(".sol-inspect")
    form = inspect.get_by_role("form", name="Inspection")
    form.get_by_label("Text", exact=True).fill("The capital of France is Paris. 12 boats came.")
    form.get_by_role("button", name="Inspect").click()
    expect(inspect.locator(".sol-state")).to_have_text("Finished", timeout=WARM_UP_MS)
    token = inspect.locator(".sol-lines .sol-token", has_text="Paris")
    token.click()
    lens = inspect.get_by_role("region", name="What if?")
    expect(lens.get_by_role("slider")).to_have_count(3, timeout=WARM_UP_MS)
    page.keyboard.press("Escape")
    expect(inspect.get_by_role("region", name="Difficulty report")).to_contain_text("number")

    visitor.tab("Explore")
    visitor.answer("The keeper of the light", 12, WARM_UP_MS)
    page.get_by_role("button", name="Compare …").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    note = page.locator(".sol-pair .sol-findings")
    told = re.compile("First difference at token|wrote the same")
    expect(note).to_have_text(told, timeout=WARM_UP_MS)
    visitor.tab("Learn")
    page.locator(".sol-lesson:visible").get_by_role("button", name="Next step").click()
    for _ in range(2):  # the others' questions: tests/app/lessons
        lesson = page.locator(".sol-lesson:visible")
        lesson.get_by_role("radio").first.check()
        lesson.get_by_role("button", name="Commit and measure").click()
        expect(lesson.locator(".sol-learn-figure")).to_be_visible(timeout=WARM_UP_MS)
        expect(lesson).to_contain_text(re.compile("(As|Not as) you guessed"))
        lesson.get_by_role("button", name="Next step").click()
    expect(lesson.get_by_role("heading", level=2)).to_contain_text("4. ")

    visitor.tab("Policies")
    expect(page.locator(".sol-policies").get_by_role("heading", name="default")).to_be_visible()
    visitor.tab("History")
    expect(page.locator(".sol-history-row:visible")).to_have_count(3)
