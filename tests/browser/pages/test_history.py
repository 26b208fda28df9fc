"""History and links: opening, searching, deleting after asking, restarts, back and forward."""

import re

import pytest
from playwright.sync_api import expect

from sol_core.config import GenerationConfig
from sol_core.events import event_to_dict
from tests.support.fake_engine import FakeEngine, make_token

pytestmark = pytest.mark.browser


def generate(visitor, prompt, tokens=12):
    visitor.generate(prompt, max_new_tokens=tokens)
    expect(visitor.page.locator(".sol-lead")).to_contain_text(prompt)
    visitor.expect_state("Finished")
    run_id = visitor.run_id()
    assert run_id is not None
    return run_id


def add(server, prompt, schedule="static", kind="generation"):
    """A stored run of twelve tokens."""
    runs = server.services.store.runs
    config = GenerationConfig()
    run_id = runs.create("c" * 32, prompt, "fake-model", schedule, config.to_dict(), kind).id
    rows = [event_to_dict(make_token(index, " word", config)) for index in range(12)]
    runs.append_events(run_id, rows)
    runs.finish(run_id, "finished")


def test_back_and_forward_walk_through_runs_and_tabs(serve, visit):
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    lead = visitor.page.locator(".sol-lead")
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
    # The form is the visitor's own: opening a run does not overwrite what they typed.
    expect(visitor.prompt).to_have_value("Second prompt")
    visitor.page.get_by_role("button", name="Use its settings").click()
    expect(visitor.prompt).to_have_value("First prompt")


def test_a_copied_link_opens_the_run_for_someone_else(serve, visit):
    server = serve(FakeEngine(step_s=0.001))
    anna = visit(server)
    generate(anna, "Share me")
    anna.page.get_by_role("button", name="Copy link").click()
    link = anna.page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(server.url)
    ben = visit(server, link.removeprefix(server.url))
    expect(ben.page.locator(".sol-lead")).to_contain_text("Share me")
    expect(ben.tokens).to_have_count(12)
    # On a phone what was shared comes before the form; beside it, the form stays at the left.
    form, token = ben.page.locator(".sol-explore .sol-controls"), ben.tokens.first
    for width, is_first in ((390, True), (1280, False)):
        ben.page.set_viewport_size({"width": width, "height": 844})
        boxes = form.bounding_box(), token.bounding_box()
        assert (boxes[1]["y"] < boxes[0]["y"]) is is_first


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


def test_an_address_carries_what_its_room_needs(serve, visit):
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    page = visitor.page
    run_id = generate(visitor, "About the sea", 15)
    visitor.tokens.nth(3).click()
    expect(page).to_have_url(re.compile("token=4"))
    visitor.tab("History")
    expect(page).to_have_url(re.compile(r"\?tab=history$"))
    visitor.tab("Explore")
    expect(page).to_have_url(re.compile(f"run={run_id}&token=4"))
    expect(visitor.tokens).to_have_count(15)
    page.go_back()
    page.go_back()
    expect(page).to_have_url(re.compile(f"run={run_id}"))
    page.go_forward()
    expect(page).to_have_url(re.compile(r"\?tab=history$"))
    page.goto(f"{page.url}&run={run_id}")  # of an older release
    expect(page).to_have_url(re.compile(r"\?tab=history$"))
    visitor.tab("Explore")
    expect(page).to_have_url(re.compile(f"run={run_id}"))
    expect(visitor.tokens).to_have_count(15)
