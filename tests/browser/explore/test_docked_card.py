"""The token's card and what if, docked beside the text: they cover nothing and move nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import LOOK, Server, Visitor
from tests.browser.look_samples import looking

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
PHONE = {"width": 390, "height": 844}


def finished(serve: Serve, visit: Visit, **options: Any) -> Visitor:
    visitor = visit(looking(serve), **options)
    visitor.generate("The lighthouse keeper", max_new_tokens=60)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(60)
    visitor.page.mouse.move(2, 2)
    return visitor


def what_if(page: Page) -> Locator:
    return page.get_by_role("region", name="What if?")


def places(page: Page) -> list[list[float]]:
    """Where every token stands in its list, whichever part of it is scrolled to."""
    found: list[list[float]] = page.evaluate(
        """() => {
          const list = document.querySelector('.sol-lines').getBoundingClientRect();
          return [...document.querySelectorAll('.sol-lines .sol-token')].map((token) => {
            const place = token.getBoundingClientRect();
            return [place.left - list.left, place.top - list.top, place.width];
          });
        }"""
    )
    return found


def is_in_sight(token: Locator) -> bool:
    """Nothing lies over the middle of the token."""
    seen: bool = token.evaluate(
        """(node) => {
          const place = node.getBoundingClientRect();
          const top = document.elementFromPoint(place.left + place.width / 2, place.top + 12);
          return node.contains(top);
        }"""
    )
    return seen


@pytest.mark.parametrize("viewport", [LOOK["viewport"], PHONE], ids=["wide", "phone"])
def test_looking_and_asking_cover_and_move_nothing(
    serve: Serve, visit: Visit, viewport: dict[str, int]
) -> None:
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


def test_the_panel_is_left_by_escape_and_the_focus_returns(serve: Serve, visit: Visit) -> None:
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


def test_a_finger_looks_first_and_then_asks(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, viewport=PHONE, has_touch=True)
    token = visitor.tokens.nth(12)
    token.tap()
    expect(visitor.card).to_contain_text("token 13 ·")
    expect(what_if(visitor.page)).to_be_hidden()
    token.tap()
    expect(what_if(visitor.page)).to_contain_text("token 13")
    what_if(visitor.page).get_by_role("button", name="Close").tap()
    expect(what_if(visitor.page)).to_be_hidden()
