"""Forks on the page: continue from a what-if's token, go to the parent, compare, export."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.host.errors import AppError
from tests.browser.axe import violations
from tests.browser.conftest import Server, Visitor
from tests.browser.exported import offline
from tests.browser.look_samples import looking

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
TOKENS = 40
AT = 12  # the token exchanged: " the"
HOSTILE = (" <img src=x onerror=window.bad=1>", " ${7*7}", "{{x}}", " \u202esea", "\n", " `a`")


def what_if(page: Page) -> Locator:
    return page.get_by_role("region", name="What if?")


def parent_of(page: Page) -> Locator:
    return page.get_by_role("button", name="Open parent")


def go_on(visitor: Visitor, index: int, words: str) -> None:
    """Continue from a token with another one, as the first level that chooses it offers."""
    visitor.tokens.nth(index).click()
    expect(what_if(visitor.page)).to_contain_text(f"token {index + 1}")  # not the one before
    name = f"Continue from here with {words}"
    what_if(visitor.page).get_by_role("button", name=name).first.click()
    expect(visitor.tokens.nth(index)).to_have_class(re.compile("is-put"))
    visitor.expect_state("Finished")


def finished(server: Server, visit: Visit) -> Visitor:
    visitor = visit(server)
    visitor.generate("The lighthouse keeper", max_new_tokens=TOKENS)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(TOKENS)
    return visitor


def test_a_fork_is_made_and_left_by_keyboard_alone(serve: Serve, visit: Visit) -> None:
    visitor = finished(looking(serve), visit)
    page, press, parent = visitor.page, visitor.page.keyboard.press, visitor.run_id()
    expect(parent_of(page)).to_be_hidden()
    visitor.tokens.first.focus()
    for _ in range(AT):
        press("ArrowRight")
    press("Enter")
    going = what_if(page).get_by_role("button", name="Continue from here with <b>sea").first
    expect(going).to_be_visible()
    for _ in range(20):
        press("Tab")
        if going.evaluate("(node) => node === document.activeElement"):
            break
    press("Enter")
    expect(visitor.tokens).to_have_count(AT + 1 + TOKENS)
    visitor.expect_state("Finished")
    put = visitor.tokens.nth(AT)
    expect(put).to_be_focused()
    expect(put).to_have_attribute("aria-label", re.compile("given900.*, put in$"))
    expect(visitor.card).to_contain_text("← put in")
    expect(page.locator(".sol-lines .is-given")).to_have_count(AT)
    assert visitor.run_id() != parent

    fork = visitor.run_id()
    parent_of(page).focus()
    press("Enter")
    expect(visitor.tokens).to_have_count(TOKENS)
    assert visitor.run_id() == parent
    expect(parent_of(page)).to_be_hidden()
    page.go_back()
    expect(visitor.tokens).to_have_count(AT + 1 + TOKENS)
    page.reload()
    expect(page.locator(".sol-lines .is-given")).to_have_count(AT)
    page.get_by_role("button", name="Compare with parent").click()
    expect(page.locator(".sol-pair-parted")).to_contain_text(f"First difference at token {AT + 1}")
    expect(page).to_have_url(re.compile(f"compare={parent}%2C{fork}"))


def test_hostile_tokens_stay_text_in_every_place_of_a_fork(
    serve: Serve, visit: Visit, chromium: Browser, tmp_path: Path
) -> None:
    visitor = finished(looking(serve, HOSTILE), visit)
    page = visitor.page
    go_on(visitor, AT, "<b>sea")
    page.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Web page").click()
    file = tmp_path / "fork.html"
    download.value.save_as(file)
    alone, problems = offline(chromium, file)
    expect(alone.locator(".sol-lines .is-given")).to_have_count(AT)
    expect(alone.locator(".sol-lines .is-put")).to_have_count(1)
    assert [one.evaluate("window.bad") for one in (page, alone)] == [None, None]
    assert problems == []
    alone.context.close()


def test_a_fork_that_is_refused_says_why_in_what_if(
    serve: Serve, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = looking(serve)
    visitor = finished(server, visit)
    visitor.tokens.nth(AT).click()
    button = what_if(visitor.page).get_by_role("button", name="Continue from here").first
    expect(button).to_be_visible()

    def refuse(*_: Any) -> None:
        raise AppError("The line is full.")

    monkeypatch.setattr(server.services.runs, "start", refuse)
    button.click()
    expect(what_if(visitor.page).get_by_role("alert")).to_have_text("The line is full.")
    expect(visitor.tokens).to_have_count(TOKENS)


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 390)], ids=["light", "dark and narrow"]
)
def test_a_fork_is_accessible(serve: Serve, visit: Visit, scheme: Any, width: int) -> None:
    visitor = visit(looking(serve), color_scheme=scheme, reduced_motion="reduce")
    visitor.generate("The lighthouse keeper", max_new_tokens=60)
    visitor.expect_state("Finished")
    go_on(visitor, 40, "town")
    expect(parent_of(visitor.page)).to_be_visible()
    visitor.page.set_viewport_size({"width": width, "height": 844})
    assert list(violations(visitor.page)) == []
    assert visitor.overflows(360, 390, 1920) == []
