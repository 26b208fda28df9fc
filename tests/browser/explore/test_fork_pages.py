"""A fork on the page: continued from a what-if's token, its parent, the comparison with it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Server, Visitor
from tests.browser.look_samples import looking

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
TOKENS = 40
AT = 12  # the token exchanged: " the"


def test_a_fork_is_made_and_left_by_keyboard_alone(serve: Serve, visit: Visit) -> None:
    visitor = visit(looking(serve))
    page, press = visitor.page, visitor.page.keyboard.press
    visitor.generate("The lighthouse keeper", max_new_tokens=TOKENS)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(TOKENS)
    parent, to_parent = visitor.run_id(), page.get_by_role("button", name="Open parent")
    expect(to_parent).to_be_hidden()
    visitor.tokens.nth(AT).focus()
    press("Enter")
    what_if = page.get_by_role("region", name="What if?")
    going = what_if.get_by_role("button", name="Continue from here with <b>sea").first
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
    expect(page.locator(".sol-lines .is-given")).to_have_count(AT)
    fork = visitor.run_id()
    to_parent.focus()
    press("Enter")
    expect(visitor.tokens).to_have_count(TOKENS)
    assert visitor.run_id() == parent != fork
    page.go_back()
    expect(visitor.tokens).to_have_count(AT + 1 + TOKENS)
    page.reload()
    expect(page.locator(".sol-lines .is-given")).to_have_count(AT)
    page.get_by_role("button", name="Compare with parent").click()
    expect(page.locator(".sol-pair-parted")).to_contain_text(f"First difference at token {AT + 1}")
    expect(page).to_have_url(re.compile(f"compare={parent}%2C{fork}"))
