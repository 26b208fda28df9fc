"""The token's card and what if, docked beside the text: they cover nothing and move nothing."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOOK
from tests.browser.look_samples import answered, looking

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
TOKENS = 60
AT = 12  # the token exchanged: " the"


def finished(serve, visit, **options):
    return answered(visit(looking(serve), **options), TOKENS)


def what_if(page):
    return page.get_by_role("region", name="What if?")


def places(page):
    """Where every token stands in its list, whichever part of it is scrolled to."""
    return page.evaluate(
        """() => {
          const list = document.querySelector('.sol-lines').getBoundingClientRect();
          return [...document.querySelectorAll('.sol-lines .sol-token')].map((token) => {
            const place = token.getBoundingClientRect();
            return [place.left - list.left, place.top - list.top, place.width];
          });
        }"""
    )


def is_in_sight(token):
    """Nothing lies over the middle of the token."""
    return token.evaluate(
        """(node) => {
          const place = node.getBoundingClientRect();
          const top = document.elementFromPoint(place.left + place.width / 2, place.top + 12);
          return node.contains(top);
        }"""
    )


@pytest.mark.parametrize("viewport", [LOOK["viewport"], PHONE], ids=["wide", "phone"])
def test_looking_and_asking_cover_and_move_nothing(serve, visit, viewport):
    visitor = finished(serve, visit, viewport=viewport)
    page, before = visitor.page, places(visitor.page)
    for index in (2, 43):
        token = visitor.tokens.nth(index)
        token.scroll_into_view_if_needed()
        token.focus()
        expect(visitor.card).to_contain_text(f"token {index + 1} ·")
        assert is_in_sight(token)
        page.keyboard.press("Enter")
        expect(what_if(page).get_by_role("slider")).to_have_count(3)
        expect(what_if(page).get_by_role("table", name="Attention")).to_be_in_viewport()
        expect(visitor.card).to_be_hidden()
        assert is_in_sight(token)
        assert places(page) == before
        page.keyboard.press("Escape")
        expect(what_if(page)).to_be_hidden()
        expect(token).to_be_focused()


def test_the_panel_is_left_by_escape_and_the_focus_returns(serve, visit):
    visitor = finished(serve, visit)
    page, token = visitor.page, visitor.tokens.nth(12)
    token.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(visitor.card.get_by_role("button", name="What if?")).to_be_focused()
    page.keyboard.press("Enter")
    what_if(page).get_by_role("slider", name="Attention").focus()
    visitor.tokens.nth(20).hover()  # it stays while other tokens are passed
    expect(visitor.tokens.nth(20)).to_have_class(re.compile("is-marked"))
    expect(what_if(page)).to_contain_text("token 13")
    page.keyboard.press("Escape")
    expect(what_if(page)).to_be_hidden()
    expect(token).to_be_focused()
    assert "token=" not in page.url
    page.keyboard.press("ArrowRight")
    visitor.card.get_by_role("button", name="Close").click()
    expect(visitor.card).to_be_hidden()
    expect(visitor.tokens.nth(13)).to_be_focused()


def test_a_fork_is_made_and_left_by_keyboard_alone(serve, visit):
    visitor = finished(serve, visit)
    page, press = visitor.page, visitor.page.keyboard.press
    parent, to_parent = visitor.run_id(), page.get_by_role("button", name="Open parent")
    expect(to_parent).to_be_hidden()
    visitor.tokens.nth(AT).focus()
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


def lines(table):
    """The rows as a screen reader says them, without what it skips and the buttons."""
    return table.locator("tbody tr").evaluate_all(
        """(rows) => rows.map((row) => {
          const copy = row.cloneNode(true);
          copy.querySelectorAll("[aria-hidden], button").forEach((part) => part.remove());
          return [...copy.children].map((cell) => cell.textContent.trim()).join(" | ");
        })"""
    )
