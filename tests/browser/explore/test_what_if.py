"""What if, and a fork of a run, by keyboard alone."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ENDED
from tests.browser.look_samples import looking
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
TOKENS = 60
AT = 12  # the token exchanged: " the"


def test_a_fork_is_made_and_left_by_keyboard_alone(serve, visit):
    visitor = visit(looking(serve))
    visitor.answer("The lighthouse keeper", TOKENS)
    page, press = visitor.page, visitor.page.keyboard.press
    parent, to_parent = visitor.run_id(), page.get_by_role("button", name="Open parent")
    expect(to_parent).to_be_hidden()
    visitor.tokens.nth(AT).focus()
    press("Enter")
    going = page.get_by_role("button", name="Continue from here with <b>sea").first
    expect(going).to_be_visible()
    going.focus()
    press("Escape")  # closes it, and goes back to the token
    expect(visitor.tokens.nth(AT)).to_be_focused()
    press("Enter")
    expect(going).to_be_visible()
    for _ in range(20):
        press("Tab")
        if going.evaluate("(node) => node === document.activeElement"):
            break
    press("Enter")
    expect(visitor.tokens).to_have_count(AT + 1 + TOKENS)
    visitor.expect_state(ENDED)
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
    parted = f"First difference at token {AT + 1}"
    expect(page.locator(".sol-pair .sol-findings")).to_contain_text(parted)
    expect(page).to_have_url(re.compile(f"compare={parent}%2C{fork}"))


def test_on_touch_a_tokens_card_is_a_sheet_that_leaves_the_token_in_sight(serve, visit):
    screen = {"width": 390, "height": 640}
    visitor = visit(serve(FakeEngine(step_s=0.001)), has_touch=True, viewport=screen)
    visitor.unfold()
    visitor.prompt.fill("Something short")
    visitor.page.get_by_role("button", name="Generate").tap()
    visitor.expect_state(ENDED)
    visitor.tokens.nth(30).tap()
    card = visitor.page.get_by_role("dialog", name="Token")
    expect(card.get_by_role("button", name="Close")).to_be_visible()
    token, sheet = visitor.tokens.nth(30).bounding_box(), card.bounding_box()
    assert sheet["y"] + sheet["height"] == 640 - 8
    assert 0 <= token["y"] < token["y"] + token["height"] <= sheet["y"]
    card.get_by_role("button", name="Close").tap()
    expect(card).to_be_hidden()
