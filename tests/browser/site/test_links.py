"""A link reopens the exact state: reload, back and forward, and for somebody else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from app.host.paths import DataDir
from app.web.services import engine_generate
from storage import TASKS_JOB
from tests.browser.conftest import WARM_UP_MS, Server, Visitor, comes_to
from tests.support.fake_engine import FakeEngine
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
TEXT = "The keeper of the light wrote down every ship ${7*7} <b>."
OWNER = "c" * 32


def query_of(page: Page) -> dict[str, str]:
    return {name: one for name, (one,) in parse_qs(urlsplit(page.url).query).items()}


def copied(visitor: Visitor, button: Locator) -> str:
    """What a "Copy link" gives, without the server's name."""
    button.click()
    link = visitor.page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(visitor.url)
    return str(link).removeprefix(visitor.url)


def everywhere(
    server: Server, visit: Visit, visitor: Visitor, button: Locator
) -> Iterator[Visitor]:
    """The page after a reload, after Back and Forward, and somebody else's by the copied link."""
    visitor.page.reload()
    yield visitor
    visitor.tab("History")
    visitor.page.go_back()
    yield visitor
    other = visit(server)
    other.page.goto(visitor.url + copied(visitor, button))
    yield other


def checked(part: Locator, name: str) -> None:
    expect(part.get_by_role("radio", name=name, exact=True)).to_be_checked()


def test_an_inspection_with_its_row_colour_token_and_lens(tiny_server: Server, visit: Visit) -> None:
    anna = visit(tiny_server)
    anna.tab("Inspect")
    part = anna.page.locator(".sol-inspect")
    form = part.get_by_role("form", name="Inspection")
    form.get_by_label("Text", exact=True).fill(TEXT)
    form.get_by_label("Schedule 2").select_option("random")
    form.get_by_role("button", name="Inspect").click()
    expect(part.locator(".sol-state")).to_have_text("Finished", timeout=WARM_UP_MS)

    part.get_by_role("radio", name="Static", exact=True).check(force=True)
    part.locator(".sol-legend").get_by_role("radio", name="Bits").check(force=True)
    part.locator(".sol-lines .sol-token").nth(6).click()
    lens = part.get_by_role("region", name="What if?")
    expect(lens.get_by_role("slider")).to_have_count(3, timeout=WARM_UP_MS)
    anna.page.keyboard.press("Escape")  # the card
    lens.get_by_role("radio", name="Surprisal").check(force=True)
    lens.locator("summary", has_text="Joint grid").click()
    expect(lens.locator(".is-plane .sol-heat").first).to_be_visible(timeout=WARM_UP_MS)
    lens.get_by_label("At", exact=True).select_option("5")
    row = query_of(anna.page)["inspect-row"]
    assert query_of(anna.page)["inspect-token"] == f"7.{row}"
    part.get_by_role("radio", name="Side by side").check(force=True)
    expect(part.locator(".sol-token.is-picked")).to_have_count(1)  # under its own row

    link = part.get_by_role("button", name="Copy link")
    for visitor in everywhere(tiny_server, visit, anna, link):
        part = visitor.page.locator(".sol-inspect")
        lens = part.get_by_role("region", name="What if?")
        expect(lens).to_contain_text("token 7")
        checked(part, "Side by side")
        checked(part.locator(".sol-legend"), "Bits")
        checked(lens, "Surprisal")
        expect(lens.locator(".is-plane .sol-heat")).to_have_count(165)
        expect(lens.get_by_label("At", exact=True)).to_have_value("5")
        pane = part.get_by_role("listbox", name="Tokens under Static")
        expect(pane.locator(".is-picked")).to_have_count(1)
        assert query_of(visitor.page)["inspect-lens"] == "nll.5"

    lens.get_by_role("button", name="Close").click()
    assert "inspect-token" not in query_of(visitor.page)
    assert "inspect-lens" not in query_of(visitor.page)


def test_back_changes_the_token_of_a_run_and_another_run_has_none(
    tiny_server: Server, visit: Visit
) -> None:
    visitor = visit(tiny_server)
    page = visitor.page
    page.get_by_role("radio", name="Random").check(force=True)
    visitor.set_advanced("Max new tokens", "8")
    page.get_by_label("Ignore end of text").check(force=True)
    for prompt in ("The first one", "The second one"):
        visitor.generate(prompt)
        expect(visitor.page.locator(".sol-lead")).to_contain_text(prompt)
        visitor.expect_state("Finished", WARM_UP_MS)
    picked = page.locator(".sol-explore .is-picked")
    lens = page.locator(".sol-explore").get_by_role("region", name="What if?")
    visitor.tokens.nth(2).click()
    expect(lens.get_by_role("slider")).to_have_count(3, timeout=WARM_UP_MS)
    visitor.tab("History")
    visitor.tab("Explore")
    visitor.tokens.nth(5).click()
    expect(lens).to_contain_text("token 6")
    page.go_back()  # History, whose step has the third token
    page.go_back()
    expect(page.get_by_role("tab", name="Explore")).to_have_attribute("aria-selected", "true")
    expect(lens).to_contain_text("token 3")
    expect(picked).to_have_count(1)

    visitor.tab("History")
    page.locator(".sol-history-title", has_text="The first one").click()
    expect(page.locator(".sol-lead")).to_contain_text("The first one")
    visitor.expect_state("Finished")
    assert "token" not in query_of(page)
    expect(picked).to_have_count(0)
    expect(lens).to_be_hidden()


def test_a_pair_with_its_colour(tiny_server: Server, visit: Visit) -> None:
    anna = visit(tiny_server)
    anna.page.goto(f"{anna.url}?challenge=of-an-older-release")
    part = anna.page.locator(".sol-explore")
    anna.unfold()
    assert query_of(anna.page) == {"tab": "explore"}
    anna.generate(max_new_tokens=6)
    anna.expect_state("Finished", timeout=WARM_UP_MS)
    part.get_by_role("button", name="Compare with …").click()
    part.get_by_role("button", name="Compare", exact=True).click()
    note = part.locator(".sol-pair-parted")
    expect(note).to_have_text(re.compile("First diff|wrote the same"), timeout=WARM_UP_MS)
    found = note.inner_text()  # before the colours are asked for, which the note says meanwhile
    part.locator(".sol-pair .sol-legend").get_by_role("radio", name="Surprisal").check(force=True)
    link = part.locator(".sol-pair .sol-chip", has_text="link")
    for visitor in everywhere(tiny_server, visit, anna, link):
        pair = visitor.page.locator(".sol-pair")
        checked(pair, "Surprisal")
        expect(pair.locator(".sol-pair-parted")).to_have_text(found)


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
    page.reload()
    expect(page.locator(".sol-lesson:visible")).to_contain_text("1. ")
    visitor.tab("Accuracy")
    expect(shown).to_contain_text("The old one")
    page.reload()
    expect(shown).to_contain_text("The old one")
    page.go_back()  # to the view that the Lab opened with
    expect(page).to_have_url(re.compile("tab=train"))
    page.go_back()
    expect(page.locator(".sol-lesson:visible")).to_contain_text("1. ")


def test_links_that_called_accuracy_benchmark_still_open(
    serve: Serve, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.policies.library.SHIPPED_FOLDER", tmp_path / "none")
    server = serve(FakeEngine(step_s=0.001))
    jobs = server.services.store.jobs
    params: dict[str, Any] = {"model": "fake-model", "policy": "mine"}
    old = jobs.create(TASKS_JOB, OWNER, "The old one", params)
    jobs.create(TASKS_JOB, OWNER, "A newer one", params)
    page = visit(server).page
    start = page.url.partition("?")[0]
    shown = page.locator(".sol-accuracy .sol-status")
    for asked in (f"benchmark={old.id}", f"tab=benchmark&benchmark={old.id}"):
        page.goto(f"{start}?{asked}")
        expect(shown).to_contain_text("The old one")
        expect(page).to_have_url(re.compile(f"[?&]accuracy={old.id}"))
        assert "benchmark" not in page.url
    page.goto(f"{start}?tab=benchmark")
    expect(shown).to_contain_text("A newer one")


def test_a_search_of_the_history_is_in_the_address(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001)))
    for prompt in ("A lighthouse", "100 % <b>ships</b> & ${7*7}"):
        visitor.generate(prompt, max_new_tokens=3)
        expect(visitor.page.locator(".sol-lead")).to_contain_text(prompt)
        visitor.expect_state("Finished")
    visitor.tab("History")
    rows = visitor.page.locator(".sol-history-row")
    expect(rows).to_have_count(2)
    search = visitor.page.get_by_label("Search")
    search.fill("% <b>ships")
    expect(rows).to_have_count(1)
    visitor.page.reload()
    expect(rows).to_have_count(1)
    expect(search).to_have_value("% <b>ships")
    search.fill("")
    expect(rows).to_have_count(2)
    comes_to(lambda: "search" in query_of(visitor.page), False)


def test_a_start_asks_for_its_home_once(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine()))
    visitor.expect_state("Ready")
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.post_data or ""))
    visitor.page.reload()
    visitor.expect_state("Ready")
    visitor.page.wait_for_timeout(600)
    assert sum('"fn_name":"home"' in one for one in asked) == 1
