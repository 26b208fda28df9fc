"""Pages taken away on the page: from a step, one after another, from a whole answer."""

from __future__ import annotations

import dataclasses

import pytest
from playwright.sync_api import expect

from app.host.paths import DataDir
from app.web.services import engine_generate
from tests.browser.axe import violations
from tests.support.tiny_language_model import make_language_model

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
PROMPT = "The keeper of the light wrote a long letter to the harbour master"


def test_a_page_is_taken_from_a_step_and_from_the_answer(serve, visit, tmp_path):
    model = dataclasses.replace(make_language_model(), name="fake-model")
    server = serve(engine_generate(DataDir(tmp_path)), load=lambda on_progress: model)
    visitor = visit(server)
    visitor.answer(PROMPT, max_new_tokens=6)
    page, parent = visitor.page, str(visitor.run_id())
    reading = page.locator(".sol-tokens > .sol-reading")
    pages, said = reading.locator(".sol-page"), reading.locator(".sol-page-said")
    what_if = reading.get_by_role("button", name="What if this page were not read?")
    expect(what_if).to_be_hidden()

    pages.nth(2).click()
    expect(pages.nth(2)).to_have_attribute("aria-selected", "true")
    visitor.tokens.nth(3).hover()
    what_if.click()
    expect(said).to_contain_text("Without page 3, ")
    effect = server.services.lens.without("", parent, 3, [2])
    expect(said).to_contain_text(f"KL {effect['kl']:.3f} nats")

    reading.get_by_role("button", name="Which page mattered?").click()
    expect(said).to_contain_text("pages in ")
    expect(reading.locator("tbody tr")).to_have_count(5)
    effects = server.services.lens.page_effects("", parent, 3)["effects"]
    kls = sorted((effect["kl"] for effect in effects), reverse=True)
    expect(reading.locator("tbody td:nth-child(2)").first).to_have_text(f"{kls[0]:.3f}")
    assert not list(violations(page))

    pages.nth(2).press("Enter")
    expect(pages.nth(2)).to_have_attribute("aria-selected", "false")
    pages.nth(4).press(" ")
    reading.get_by_role("button", name="Answer again without it").click()
    expect(page.get_by_text("without page 5")).to_be_visible()
    (child,) = [run for run in server.services.store.runs.list(limit=9) if run.parent == parent]
    assert child.config["left_out"] == [4]
    visitor.open(f"?tab=explore&run={child.id}")
    expect(reading.locator(".is-left-out")).to_have_count(1)
    assert visitor.problems == []
