"""History and links: opening, searching, deleting after asking, restarts, back and forward."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from app.policies.library import SHIPPED_FOLDER
from sol_core.config import GenerationConfig
from sol_core.events import event_to_dict
from storage import TASKS_JOB, RunKind
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
    server: Server, prompt: str, schedule: str = "static", kind: RunKind = "generation"
) -> None:
    """A stored run of twelve tokens."""
    runs = server.services.store.runs
    config = GenerationConfig()
    run_id = runs.create("c" * 32, prompt, "fake-model", schedule, config.to_dict(), kind).id
    rows = [event_to_dict(make_token(index, " word", config)) for index in range(12)]
    runs.append_events(run_id, rows)
    runs.finish(run_id, "finished")


def test_runs_are_listed_searched_and_opened_as_they_were(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    first = generate(visitor, "About the sea", 15)
    shown = visitor.texts()
    generate(visitor, "About mountains")
    visitor.tab("History")
    rows = visitor.page.get_by_role("listitem")
    expect(rows).to_have_count(2)
    for words in ("About mountains", "Finished", " % compute · 16 bits", "12 tokens"):
        expect(rows.first).to_contain_text(words)
    visitor.page.get_by_label("Search").fill("SEA")
    expect(rows).to_have_count(1)
    visitor.page.get_by_role("link", name="About the sea").click()
    expect(visitor.tokens).to_have_count(15)
    assert visitor.run_id() == first
    assert visitor.texts() == shown


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
    for words in ("Second prompt", "First prompt"):
        visitor.page.go_back()  # a tab is a step of its own
        expect(lead).to_contain_text(words)
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


HUGE = b'{"seed": 1000000000000000000000000000000}'


def test_what_is_damaged_is_shown_beside_the_others_and_deleted(serve: Serve, visit: Visit) -> None:
    server = serve(FakeEngine(step_s=0.001))
    page, store = visit(server).page, server.services.store
    for title in ("A bad run", "A good run"):
        add(server, title)
    job = store.jobs.create("train", "a" * 32, "A bad job", {}, worker="w")
    store.jobs.finish(job.id, "w", "failed")
    folder = server.services.data_dir.policies / "bad-policy"
    shutil.copytree(SHIPPED_FOLDER, folder)
    (folder / "config.json").write_text("{", "utf-8")
    with closing(sqlite3.connect(server.services.data_dir.database)) as database:
        title = b"A bad run"
        database.execute("UPDATE runs SET config = ? WHERE title = ?", (HUGE, title))
        database.execute("UPDATE jobs SET params = ?", (HUGE,))
        database.commit()

    for tab, rows, name, others in (
        ("history", ".sol-history .sol-history-row", "A bad run", "A good run"),
        ("train", ".sol-jobs:visible .sol-history-row", "A bad job", ""),
        ("policies", ".sol-policies .sol-policy-row", "bad-policy", "default"),
    ):
        page.goto(f"{server.url}?tab={tab}")
        bad = page.locator(rows).filter(has_text=name)
        expect(bad).to_contain_text("Damaged")
        page.get_by_role("button", name=f"Delete: {name}").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(bad).to_have_count(0)
        expect(page.locator(rows).filter(has_text=others)).to_have_count(1 if others else 0)
    assert not folder.exists()


OWNER = "c" * 32


def test_what_a_tab_shows_unasked_is_named_and_stays_when_something_newer_comes(
    serve: Serve, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.policies.library.SHIPPED_FOLDER", tmp_path / "none")
    server = serve(FakeEngine(step_s=0.001))
    jobs = server.services.store.jobs
    params: dict[str, Any] = {"model": "fake-model", "policy": "mine"}
    old = jobs.create(TASKS_JOB, OWNER, "The old one", params)
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Accuracy")
    shown = page.locator(".sol-accuracy .sol-status")
    expect(shown).to_contain_text("The old one")
    expect(page).to_have_url(re.compile(f"accuracy={old.id}"))
    jobs.create(TASKS_JOB, OWNER, "A newer one", params)
    visitor.tab("Learn")
    expect(page).to_have_url(re.compile("lesson=dial"))
    visitor.tab("Accuracy")
    expect(shown).to_contain_text("The old one")
    page.reload()
    expect(shown).to_contain_text("The old one")
    # Links of a release that called the tasks a benchmark.
    start = page.url.partition("?")[0]
    for asked in (f"benchmark={old.id}", f"tab=benchmark&benchmark={old.id}"):
        page.goto(f"{start}?{asked}")
        expect(shown).to_contain_text("The old one")
        expect(page).to_have_url(re.compile(f"[?&]accuracy={old.id}"))
        assert "benchmark" not in page.url
    page.goto(f"{start}?tab=benchmark")
    expect(shown).to_contain_text("A newer one")


def test_an_address_carries_what_its_room_needs(serve: Serve, visit: Visit) -> None:
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
