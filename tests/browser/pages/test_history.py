"""History and links: opening, searching, deleting after asking, restarts, back and forward."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ENDED
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser


def generate(visitor, prompt, tokens=12):
    visitor.generate(prompt, max_new_tokens=tokens)
    expect(visitor.page.locator(".sol-question-asked")).to_contain_text(prompt)
    visitor.expect_state(ENDED)
    run_id = visitor.run_id()
    assert run_id is not None
    return run_id


def test_back_and_forward_walk_through_runs_and_tabs(serve, visit):
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    lead = visitor.page.locator(".sol-question-asked")
    one = generate(visitor, "First prompt", 11)
    two = generate(visitor, "Second prompt", 22)
    visitor.page.go_back()
    expect(lead).to_contain_text("First prompt")
    expect(visitor.tokens).to_have_count(11)
    assert visitor.run_id() == one
    visitor.page.go_back()
    expect(visitor.page.get_by_role("region", name="Recorded example")).to_be_visible()
    visitor.page.go_forward()
    visitor.page.go_forward()
    expect(lead).to_contain_text("Second prompt")
    assert visitor.run_id() == two
    visitor.tab("History")
    for words in ("Second prompt", "First prompt"):
        visitor.page.go_back()  # a tab is a step of its own
        expect(lead).to_contain_text(words)
        expect(visitor.prompt).to_have_value(words)  # a run brings its own prompt and settings


def test_a_copied_link_opens_the_run_for_someone_else(serve, visit):
    server = serve(FakeEngine(step_s=0.001))
    anna = visit(server)
    generate(anna, "Share me")
    anna.page.get_by_role("button", name="Copy link").click()
    link = anna.page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(server.url)
    ben = visit(server, link.removeprefix(server.url))
    expect(ben.page.locator(".sol-question-asked")).to_contain_text("Share me")
    expect(ben.tokens).to_have_count(12)


def test_delete_asks_first(serve, visit):
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    page, run_id = visitor.page, generate(visitor, "Delete me")
    visitor.tab("History")
    rows, dialog = page.get_by_role("listitem"), page.get_by_role("dialog")
    for key in ("Enter", "Escape"):  # the safe answer has the focus
        page.get_by_role("button", name="Delete: Delete me").click()
        expect(dialog).to_contain_text("“Delete me”")
        page.keyboard.press(key)
        expect(dialog).to_be_hidden()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Delete: Delete me").click()
    dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(rows).to_have_count(0)
    visitor.open(f"?run={run_id}")
    expect(page.get_by_text("This run does not exist")).to_be_visible()


def test_variants_of_a_run_stand_under_it(serve, visit):
    server = serve(FakeEngine(step_s=0.001))
    visitor = visit(server)
    run_id, runs = generate(visitor, "A lamp?"), server.services.store.runs
    made = runs.get(run_id)
    left_out = made.config | {"left_out": [2]}
    runs.create(made.owner, made.prompt, made.model, "static", left_out, parent=run_id)
    visitor.tab("History")
    top = visitor.page.locator(".sol-history > .sol-panel > ol > li")
    expect(top).to_have_count(1)
    expect(top.locator(".sol-history-answer")).to_be_visible()
    visitor.page.get_by_text("+ 1 variant").click()
    expect(top.locator("li")).to_contain_text("Without a line")
    expect(top.locator("li").get_by_text(run_id)).to_be_hidden()
