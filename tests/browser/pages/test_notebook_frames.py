"""Results of the library in a notebook's page: frames of their own, several, light and dark."""

import pytest
from playwright.sync_api import expect

from sol_core import Budget, GenerationConfig, generate, inspect
from tests.browser.exported import offline
from tests.support.tiny_language_model import make_language_model

pytestmark = pytest.mark.browser
COUNT, NARROW = 120, {"width": 480, "height": 800}  # several lines
WITHIN = "place => place.scrollHeight <= place.clientHeight"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_several_results_in_one_page(scheme, chromium, tmp_path):
    model, budget = make_language_model(), Budget(0.5, 0.7, 8)
    config = GenerationConfig(max_new_tokens=COUNT, ignore_end_of_text=True)
    made = generate(model, "</script> Once", None, budget, config=config)
    inspected = inspect(model, "A text that is read.", "static", budget)
    frames = [result._repr_html_() for result in (made, inspected, made)]
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!DOCTYPE html><meta charset=utf-8>{'<hr>'.join(frames)}", "utf-8")
    page, problems = offline(chromium, notebook, color_scheme=scheme, viewport=NARROW)
    for number, count in enumerate((COUNT, len(inspected.tokens), COUNT)):
        frame = page.frame_locator("iframe").nth(number)
        tokens = frame.locator(".sol-lines .sol-token")
        expect(tokens).to_have_count(count)
        if (charts := frame.get_by_text("Numbers and charts", exact=True)).count():
            charts.click()
        expect(frame.locator(".sol-plot svg").first).to_be_visible()
        expect(frame.locator(".sol-header")).to_be_hidden()
        tokens.nth(1).hover()
        expect(frame.locator(".sol-card")).to_contain_text("token 2")
        wide = "document.documentElement.scrollWidth <= innerWidth"
        assert page.frames[number + 1].evaluate(wide)
        assert frame.locator(".sol-token-place").evaluate(WITHIN), "no line is cut"
    assert problems == []
    page.context.close()
