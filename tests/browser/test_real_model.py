"""The default model on the page: real tokens, stopped and read to the end, reopened as shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from app.paths import DataDir
from app.services import engine_generate, engine_load
from tests.browser.conftest import WARM_UP_MS, Server, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def load() -> Callable[[Any], Any]:
    """Loads the default model once, or the folder that SOL_TEST_MODEL names."""
    data_dir = DataDir.resolve(None)
    data_dir.prepare()
    name = os.environ.get("SOL_TEST_MODEL", "smollm2-135m-instruct")
    model = engine_load(data_dir, name, "auto")(lambda message, fraction: None)
    return lambda on_progress: model


def test_the_real_model_answers_and_every_number_is_real(
    load: Callable[[Any], Any], serve: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    visitor = visit(serve(engine_generate(DataDir.resolve(None)), load=load))
    visitor.expect_state("Ready")
    visitor.page.get_by_role("radio", name="Dense").check(force=True)
    visitor.generate("What is the capital of France? Answer in one sentence.", max_new_tokens=24)
    expect(visitor.page.locator(".sol-state").first).to_have_text("Finished", timeout=WARM_UP_MS)
    assert "Paris" in "".join(visitor.texts())
    assert "0.0 %" in visitor.page.locator(".sol-status").inner_text()

    visitor.page.get_by_role("radio", name="Uncertainty (EMC)").check(force=True)
    visitor.page.get_by_label("Attention kept, value").fill("50")
    first = visitor.run_id()
    visitor.generate(max_new_tokens=24)
    visitor.page.wait_for_url(lambda url: f"run={first}" not in url)
    expect(visitor.page.locator(".sol-state").first).to_have_text("Finished", timeout=WARM_UP_MS)
    expect(visitor.tokens.first).to_be_visible()
    visitor.tokens.nth(2).hover()
    expect(visitor.card).to_contain_text("In the dense row")
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


def test_a_real_generation_stops_at_once(
    load: Callable[[Any], Any], serve: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    visitor = visit(serve(engine_generate(DataDir.resolve(None)), load=load))
    visitor.generate("Count from one to a thousand:", max_new_tokens=4000)
    expect(visitor.tokens.nth(5)).to_be_visible(timeout=WARM_UP_MS)
    # Counted as it is pressed: on a busy machine the test's own way to the button takes seconds.
    before = visitor.page.get_by_role("button", name="Stop").evaluate(
        """(stop) => {
          const shown = document.querySelectorAll(".sol-lines .sol-token").length;
          stop.click();
          return shown;
        }"""
    )
    visitor.expect_state("Stopped")
    assert before <= visitor.tokens.count() <= before + 200  # about a second of tokens
