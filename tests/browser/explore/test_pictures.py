"""A run's strips, the answer without a line, and the picture to save."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from app.web.theme import DARK, DARK_SCALE, LIGHT, LIGHT_SCALE
from sol_core.actions import Budget
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser


class Sparse(FakeEngine):
    """Steps that read less than half of the pages."""

    def __call__(self, model, prompt, config, stop):
        schedule = replace(config.schedule, budget=Budget(0.4, 0.7, 10))
        return super().__call__(model, prompt, replace(config, schedule=schedule), stop)


@pytest.fixture
def ended(serve, visit):
    visitor = visit(serve(Sparse(pages=tuple(f"page {at} of a prompt " for at in range(20)))))
    visitor.answer("The keeper\n\nWho asks?", max_new_tokens=12)
    return visitor


def test_the_answer_stands_in_the_upper_half_below_its_question(ended):
    expect(ended.page.locator(".sol-question-asked")).to_contain_text("Who asks?")
    assert ended.tokens.first.bounding_box()["y"] < 420
    ended.page.set_viewport_size({"width": 390, "height": 844})
    assert ended.tokens.first.bounding_box()["y"] < 500
    expect(ended.tokens.and_(ended.page.locator(".is-marked"))).to_have_count(1)


def test_strips_point_at_lines_and_a_click_strikes_one_out(ended):
    page = ended.page
    strips = page.locator(".sol-stage > .sol-reading .sol-strips svg")
    strips.scroll_into_view_if_needed()
    box = strips.bounding_box()
    at = {"x": box["width"] * 0.4, "y": 20}
    strips.hover(position=at)
    pointed = page.locator(".sol-page.is-pointed")
    expect(pointed).to_have_text(re.compile(r"^page \d+ of a prompt"))
    line = pointed.text_content()
    strips.click(position=at)
    struck = page.locator('.sol-page[aria-selected="true"]')
    expect(struck).to_have_text(line)
    page.get_by_role("button", name="Put back").click()
    expect(struck).to_have_count(0)


def test_the_full_models_answer_stands_under_one_that_changed(ended):
    ended.page.get_by_role("button", name="Ask the full model").click()
    answer = ended.page.locator(".sol-outcome-line .sol-page-answer")
    expect(answer).to_have_text("Full model: " + "".join(ended.texts()).replace("\u00a0", " "))
    assert ended.page.locator(".sol-question-asked").text_content() == "The keeper\n\nWho asks?"


@pytest.mark.parametrize(
    ("form", "begins"),
    [("PNG, light", b"\x89PNG"), ("SVG, light", b"<svg"), ("SVG, dark", b"<svg")],
)
def test_a_picture_has_question_answer_verdict_and_strips(ended, tmp_path, form, begins):
    page = ended.page
    page.get_by_role("button", name="Save picture").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=form).click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    drawn = path.read_bytes()
    assert drawn.startswith(begins)
    if form.startswith("SVG"):
        themes = {"light": (LIGHT, LIGHT_SCALE), "dark": (DARK, DARK_SCALE)}
        palette, scale = themes[form.removeprefix("SVG, ")]
        for colour in (palette["panel"], *scale):
            assert f'fill="{colour}"'.encode() in drawn  # whatever the page's own theme is
        found = (
            b"Who asks?",
            b"sea",
            b"The full model disagrees",
            b"Read",
            b" of the full model",
        )
        for words in found:
            assert words in drawn
