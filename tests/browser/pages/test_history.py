"""History and links: opening, searching, deleting after asking, restarts, back and forward."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from sol_core.actions import Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import event_to_dict
from storage import RunKind
from tests.browser.conftest import Server, Visitor, free_port
from tests.support.fake_engine import FakeEngine, make_token

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]


def generate(visitor: Visitor, prompt: str, tokens: int = 12) -> str:
    visitor.generate(prompt, max_new_tokens=tokens)
    expect(visitor.page.locator(".sol-lead")).to_contain_text(prompt)
    visitor.expect_state("Finished")
    run_id = visitor.run_id()
    assert run_id is not None
    return run_id


def add(
    server: Server,
    prompt: str,
    schedule: str = "static",
    tokens: int = 12,
    text: str = "",
    kind: RunKind = "generation",
    parent: str | None = None,
) -> str:
    """A stored run; its tokens spend as the stand-in engine's do under this schedule."""
    is_dense = schedule == "dense"
    kept = ScheduleConfig("dense") if is_dense else ScheduleConfig("static", Budget(0.5, 0.7, 8.0))
    config = GenerationConfig(schedule=kept, given=(1, 2, 3) if parent else ())
    runs = server.services.store.runs
    run_id = runs.create(
        "c" * 32, prompt, "fake-model", schedule, config.to_dict(), kind, parent=parent
    ).id
    rows = [event_to_dict(make_token(index, " word", config)) for index in range(tokens)]
    runs.append_events(run_id, rows)
    runs.finish(run_id, "finished", {"text": text})
    return run_id


def at_history(visit: Visit, server: Server, query: str = "?tab=history") -> Visitor:
    visitor = visit(server)
    visitor.page.goto(server.url + query)
    expect(visitor.page.get_by_label("Search")).to_be_visible()
    return visitor


def test_filters_are_in_the_address_and_combine_with_the_search(serve: Serve, visit: Visit) -> None:
    server = serve()
    for prompt, schedule in (("Sea", "dense"), ("Sea", "static"), ("Hill", "static")):
        add(server, f"{prompt} {schedule}", schedule)
    add(server, "Sea inspected", "dense, static", 3, kind="inspection")
    visitor = at_history(visit, server)
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
    expect(empty).to_be_hidden()
    expect(page.get_by_label("Search")).to_have_value("")
    assert page.url.removeprefix(server.url) == "?tab=history"
    # A link to a run is one to the run alone.
    kind.get_by_text("Inspections", exact=True).click()
    expect(titles).to_have_count(1)
    assert "kind" not in str(titles.get_attribute("href"))


def test_back_brings_the_filters_back(serve: Serve, visit: Visit) -> None:
    server = serve()
    add(server, "Dense", "dense")
    add(server, "Static", "static")
    visitor = at_history(visit, server, "?tab=history&schedule=dense")
    titles = visitor.page.locator(".sol-history-title")
    expect(titles).to_have_text(["Dense"])
    visitor.page.evaluate("history.pushState(null, '', '?tab=history&schedule=static')")
    visitor.page.go_back()
    visitor.page.go_forward()
    expect(titles).to_have_text(["Static"])
    schedule = visitor.page.get_by_role("group", name="Schedule")
    expect(schedule.get_by_label("Static")).to_be_checked()
    visitor.page.go_back()
    expect(titles).to_have_text(["Dense"])


def test_runs_are_listed_searched_and_opened_as_they_were(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    first = generate(visitor, "About the sea", 15)
    shown = visitor.texts()
    visitor.show_numbers()
    figures = visitor.page.locator(".sol-tiles").inner_text()
    generate(visitor, "About mountains")
    visitor.tab("History")
    rows = visitor.page.get_by_role("listitem")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("About mountains")
    expect(rows.first).to_contain_text("Finished")
    expect(rows.first).to_contain_text(" % compute · 16 bits")
    expect(rows.first).to_contain_text("12 tokens")
    visitor.page.get_by_label("Search").fill("SEA")
    expect(rows).to_have_count(1)
    visitor.page.get_by_role("link", name="About the sea").click()
    expect(visitor.tokens).to_have_count(15)
    assert visitor.run_id() == first
    assert visitor.texts() == shown
    expect(visitor.page.locator(".sol-tiles")).to_have_text(
        figures.replace("\n", ""), use_inner_text=False
    )


def test_a_fork_says_whose_it_is_and_leads_there(serve: Serve, visit: Visit) -> None:
    server = serve()
    parent = add(server, "The first")
    add(server, "Another way", parent=parent)
    visitor = at_history(visit, server)
    fork, first = (visitor.page.locator(".sol-history-row").nth(at) for at in range(2))
    expect(fork).to_contain_text(f"Fork of {parent} at token 3")
    expect(first).not_to_contain_text("Fork of")
    fork.get_by_role("link", name=parent).click()
    expect(visitor.page).to_have_url(re.compile(f"run={parent}"))


def test_hostile_prompts_and_searches_stay_text(serve: Serve, visit: Visit) -> None:
    hostile = "<img src=x onerror=alert(1)> ${7*7} %_ '\";--"
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    generate(visitor, hostile)
    visitor.tab("History")
    link = visitor.page.get_by_role("link", name=hostile)
    expect(link).to_be_visible()
    search = visitor.page.get_by_label("Search")
    for text, rows in (("img SRC=x", 1), ("%_", 1), ("7%7", 0), (hostile, 1), ("' or 1=1 --", 0)):
        search.fill(text)
        expect(visitor.page.locator(".sol-history-row")).to_have_count(rows)
    assert visitor.page.locator(".sol-history img").count() == 0


def test_every_tool_of_a_row_is_in_reach_on_a_phone(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    generate(visitor, "About the sea")
    visitor.tab("History")
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    tools = visitor.page.locator(".sol-history-tools > *")
    expect(tools).to_have_count(5)
    for box in (tools.nth(at).bounding_box() for at in range(5)):
        assert box is not None
        assert box["x"] + box["width"] <= 390


def test_back_and_forward_walk_through_runs_and_tabs(serve: Serve, visit: Visit) -> None:
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
    visitor.page.go_back()  # a tab is a step of its own
    expect(lead).to_be_visible()
    expect(lead).to_contain_text("Second prompt")
    visitor.page.go_back()
    expect(lead).to_contain_text("First prompt")
    # The form is the visitor's own: opening a run does not overwrite what they typed.
    expect(visitor.prompt).to_have_value("Second prompt")
    visitor.page.get_by_role("button", name="Use its settings").click()
    expect(visitor.prompt).to_have_value("First prompt")


def test_a_copied_link_opens_the_run_for_someone_else(serve: Serve, visit: Visit) -> None:
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
        assert boxes[0] is not None
        assert boxes[1] is not None
        assert (boxes[1]["y"] < boxes[0]["y"]) is is_first


def test_delete_asks_first(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    run_id = generate(visitor, "Delete me")
    visitor.tab("History")
    rows = visitor.page.get_by_role("listitem")
    visitor.page.get_by_role("button", name="Delete: Delete me").click()
    dialog = visitor.page.get_by_role("dialog")
    expect(dialog).to_contain_text("“Delete me”")
    # The safe answer has the focus, so Enter keeps the run; Escape keeps it too.
    visitor.page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    visitor.page.get_by_role("button", name="Delete: Delete me").click()
    visitor.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(rows).to_have_count(1)
    visitor.page.get_by_role("button", name="Delete: Delete me").click()
    dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(rows).to_have_count(0)
    visitor.tab("Explore")
    expect(visitor.page.get_by_role("region", name="Recorded example")).to_be_visible()
    visitor.open(f"?run={run_id}")
    expect(visitor.page.get_by_text("This run does not exist")).to_be_visible()


def test_a_restart_keeps_runs_and_labels_those_it_cut_off(serve: Serve, visit: Visit) -> None:
    port = free_port()
    server = serve(FakeEngine(step_s=0.01), port=port)
    visitor = visit(server)
    done = generate(visitor, "Finished before", 20)
    shown = visitor.texts()
    cut = server.services.store.runs.create("c" * 32, "Cut off", "fake-model", "static", {})
    server.close()
    serve(FakeEngine(step_s=0.01), port=port)
    visitor.problems.clear()  # the browser reports the connections that the restart closed
    visitor.open(f"?run={done}")
    expect(visitor.tokens).to_have_count(20)
    assert visitor.texts() == shown
    visitor.open(f"?run={cut.id}")
    visitor.expect_state("Interrupted")
    expect(visitor.page.get_by_text("This is what had been saved")).to_be_visible()
    visitor.tab("History")
    row = visitor.page.get_by_role("listitem").filter(has_text="Cut off")
    expect(row).to_contain_text("Interrupted")
    visitor.problems.clear()


def test_a_long_history_comes_in_pages(serve: Serve, visit: Visit) -> None:
    server = serve()
    for number in range(45):
        record = server.services.store.runs.create(
            "c" * 32, f"Run {number}", "fake-model", "dense", {}
        )
        server.services.store.runs.finish(record.id, "finished")
    visitor = visit(server)
    visitor.tab("History")
    rows = visitor.page.get_by_role("listitem")
    expect(rows).to_have_count(30)
    visitor.page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(45)
    expect(visitor.page.get_by_role("button", name="Show more")).to_be_hidden()


def test_a_space_lists_only_the_visitors_own_runs(
    serve: Serve, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(FakeEngine(step_s=0.001))
    shared = server.services
    object.__setattr__(shared, "is_shared", True)
    anna, ben = visit(server), visit(server)
    generate(anna, "Mine alone")
    anna.tab("History")
    expect(anna.page.get_by_role("listitem")).to_have_count(1)
    ben.tab("History")
    expect(ben.page.get_by_text("Nothing yet.")).to_be_visible()


def test_another_run_can_be_looked_at_while_one_is_going_on(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.02)))
    generate(visitor, "Old one", 5)
    visitor.generate("New one", max_new_tokens=300)
    visitor.expect_state("Generating")
    visitor.tab("History")
    expect(visitor.page.get_by_role("listitem").first).to_contain_text("Running")
    visitor.page.get_by_role("link", name="Old one").click()
    visitor.expect_state("Finished")
    expect(visitor.page.get_by_role("button", name="Stop")).to_be_enabled()
    visitor.page.get_by_role("button", name="Show the running generation").click()
    visitor.expect_state("Generating")
    visitor.page.get_by_role("button", name="Stop").click()
    visitor.expect_state("Stopped")
