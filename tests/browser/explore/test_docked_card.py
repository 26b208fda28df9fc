"""The token's card and what if, docked beside the text: they cover nothing and move nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Server, Visitor
from tests.browser.exported import offline
from tests.browser.look_samples import looking

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


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


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_looking_and_asking_cover_and_move_nothing(
    serve: Serve, visit: Visit, viewport: dict[str, int]
) -> None:
    visitor = finished(serve, visit, viewport=viewport, reduced_motion="reduce")
    page, before = visitor.page, places(visitor.page)
    for index in (2, 30, 43):
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
    plot = what_if(page).get_by_role("slider", name="Attention")
    plot.focus()
    page.keyboard.press("Escape")
    expect(what_if(page)).to_be_hidden()
    expect(token).to_be_focused()
    expect(visitor.card).to_contain_text("token 13 ·")
    assert "token=" not in page.url
    page.keyboard.press("Escape")
    expect(visitor.card).to_be_hidden()
    expect(token).to_be_focused()
    page.keyboard.press("ArrowRight")
    visitor.card.get_by_role("button", name="Close").click()
    expect(visitor.card).to_be_hidden()
    expect(visitor.tokens.nth(13)).to_be_focused()


def test_what_if_stays_while_other_tokens_are_passed(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    visitor.tokens.nth(12).click()
    expect(what_if(visitor.page)).to_contain_text("token 13")
    visitor.tokens.nth(20).hover()
    expect(visitor.tokens.nth(20)).to_have_class(re.compile("is-marked"))
    visitor.page.wait_for_timeout(300)
    expect(visitor.page.locator(".sol-machine-caption")).to_contain_text("Token 13")
    expect(what_if(visitor.page)).to_contain_text("token 13")
    expect(visitor.card).to_be_hidden()
    visitor.tokens.nth(20).click()
    expect(what_if(visitor.page)).to_contain_text("token 21")


def test_a_token_that_comes_under_a_resting_pointer_opens_no_card(
    serve: Serve, visit: Visit
) -> None:
    visitor = finished(serve, visit, viewport=PHONE)
    visitor.tokens.nth(30).hover()
    expect(visitor.card).to_contain_text("token 31 ·")
    visitor.page.keyboard.press("Escape")
    expect(visitor.card).to_be_hidden()
    under = visitor.page.locator(".sol-token:hover")
    before = under.text_content()
    visitor.page.evaluate("scrollBy(0, -60)")
    expect(under).not_to_have_text(before or "")
    visitor.page.wait_for_timeout(300)
    expect(visitor.card).to_be_hidden()
    place = under.bounding_box() or {"x": 0.0, "y": 0.0}
    visitor.page.mouse.move(place["x"] + 3, place["y"] + 8)
    expect(visitor.card).to_be_visible()


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


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", WIDE), ("dark", PHONE)], ids=["light", "dark and narrow"]
)
def test_page_and_export_are_accessible_with_the_panel_open(
    serve: Serve, visit: Visit, chromium: Browser, tmp_path: Path, scheme: Any, viewport: Any
) -> None:
    look = {"color_scheme": scheme, "reduced_motion": "reduce", "viewport": viewport}
    visitor = finished(serve, visit, **look)
    page = visitor.page
    page.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Web page").click()
    file = tmp_path / "run.html"
    download.value.save_as(file)
    visitor.tokens.nth(12).focus()
    expect(visitor.card).to_be_visible()
    assert list(violations(page)) == []
    page.keyboard.press("Enter")
    expect(what_if(page).get_by_role("slider")).to_have_count(3)
    expect(what_if(page).locator(".is-old")).to_have_count(0)  # dimmed while it is asked for
    assert list(violations(page)) == []
    alone, problems = offline(chromium, file, **look)
    expect(alone.locator(".sol-lines .sol-token")).to_have_count(60)
    token, before = alone.locator(".sol-lines .sol-token").nth(30), places(alone)
    token.focus()
    expect(alone.locator(".sol-card")).to_contain_text("token 31 ·")
    assert is_in_sight(token)
    assert places(alone) == before
    assert list(violations(alone)) == []
    assert alone.locator(".sol-card").get_by_role("button", name="What if?").count() == 0
    assert alone.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    alone.keyboard.press("Escape")
    expect(alone.locator(".sol-card")).to_be_hidden()
    expect(token).to_be_focused()
    assert problems == []
    alone.context.close()
