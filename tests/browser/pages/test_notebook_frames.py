"""Results of the library in a notebook's page: frames of their own, several, light and dark."""

import html

import pytest
from playwright.sync_api import expect

from sol_core import Budget, GenerationConfig, generate, inspect
from tests.browser.exported import offline
from tests.support.tiny_language_model import make_language_model

pytestmark = pytest.mark.browser
COUNT, NARROW = 120, {"width": 480, "height": 800}  # several lines
WITHIN = "place => place.scrollHeight <= place.clientHeight"
WIDE = "page => page.scrollWidth <= innerWidth"
# What VS Code allows in a notebook's outputs, which frames inherit.
VS_CODE = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src https: http: data:; font-src https:; connect-src https:; child-src https: data:"
)
COLAB = "allow-downloads allow-forms allow-popups allow-scripts"  # of its frame, of another origin


def _shown_by(host, body):
    """The page of a notebook as JupyterLab, VS Code or Colab show its outputs."""
    allowed = f'<meta http-equiv="Content-Security-Policy" content="{VS_CODE}">'
    head = f"<!DOCTYPE html><meta charset=utf-8>{allowed if host == 'VS Code' else ''}"
    if host == "Colab":
        inner = html.escape(f"{head}{body}")
        body = f'<iframe id="outputs" sandbox="{COLAB}" srcdoc="{inner}" width=460 height=4000>'
    return head + body


@pytest.mark.parametrize(
    ("scheme", "host"), [("light", "JupyterLab"), ("dark", "VS Code"), ("dark", "Colab")]
)
def test_several_results_in_one_page(scheme, host, chromium, tmp_path):
    model, budget = make_language_model(), Budget(0.5, 0.7, 8)
    config = GenerationConfig(max_new_tokens=COUNT, ignore_end_of_text=True)
    made = generate(model, "</script> Once", None, budget, config=config)
    inspected = inspect(model, "A text that is read.", "static", budget)
    frames = [result._repr_html_() for result in (made, inspected, made)]
    notebook = tmp_path / "notebook.html"
    notebook.write_text(_shown_by(host, "<hr>".join(frames)), "utf-8")
    page, problems = offline(chromium, notebook, color_scheme=scheme, viewport=NARROW)
    outputs = page.frame_locator("#outputs") if host == "Colab" else page
    for number, count in enumerate((COUNT, len(inspected.tokens), COUNT)):
        frame = outputs.frame_locator("iframe").nth(number)
        tokens = frame.locator(".sol-lines .sol-token")
        expect(tokens).to_have_count(count)
        if (charts := frame.get_by_text("Numbers and charts", exact=True)).count():
            charts.click()
        expect(frame.locator(".sol-plot svg").first).to_be_visible()
        expect(frame.locator(".sol-header")).to_be_hidden()
        tokens.nth(1).hover()
        expect(frame.locator(".sol-card")).to_contain_text("token 2")
        assert frame.locator("html").evaluate(WIDE)
        assert frame.locator(".sol-token-place").evaluate(WITHIN), "no line is cut"
    assert problems == []
    page.context.close()
