"""History and links: opening, searching, deleting after asking, restarts, back and forward."""

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


def test_filters_are_in_the_address_and_combine_with_the_search(serve, visit):
    server = serve()
    for prompt, schedule in (("Sea", "dense"), ("Sea", "static"), ("Hill", "static")):
        add(server, f"{prompt} {schedule}", schedule)
    add(server, "Sea inspected", "dense, static", kind="inspection")
    visitor = visit(server)
    visitor.tab("History")
    page = visitor.page
    titles = page.locator(".sol-history-title")
    kind, schedule = (page.get_by_role("group", name=name) for name in ("Kind", "Schedule"))
    expect(titles).to_have_count(4)
    schedule.get_by_text("Static", exact=True).click()
    expect(titles).to_have_text(["Sea inspected", "Hill static", "Sea static"])
    kind.get_by_text("Runs", exact=True).click()
    expect(titles).to_have_text(["Hill static", "Sea static"])
    page.get_by_label("Search").fill("sea")
    expect(titles).to_have_text(["Sea static"])
    page.wait_for_url("**search=sea**")
    address = page.url.removeprefix(server.url)
    assert "kind=generation" in address
    assert "schedule=static" in address
    page.goto(server.url + address)
    expect(titles).to_have_text(["Sea static"])
    expect(kind.get_by_label("Runs")).to_be_checked()
    expect(schedule.get_by_label("Static")).to_be_checked()
    schedule.get_by_text("Random", exact=True).click()
    empty = page.get_by_text("No run matches: Runs, Random, prompt with “sea”.")
    expect(empty).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    expect(titles).to_have_count(4)
    expect(page.get_by_label("Search")).to_have_value("")
    assert page.url.removeprefix(server.url) == "?tab=history"


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
