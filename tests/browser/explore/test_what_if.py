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


def lines(table: Locator) -> list[str]:
    """The rows as a screen reader says them, without what it skips and the buttons."""
    return table.locator("tbody tr").evaluate_all(
        """(rows) => rows.map((row) => {
          const copy = row.cloneNode(true);
          copy.querySelectorAll("[aria-hidden], button").forEach((part) => part.remove());
          return [...copy.children].map((cell) => cell.textContent.trim()).join(" | ");
        })"""
    )


def test_neighbouring_levels_of_one_token_are_one_row_and_others_are_marked(
    serve: Serve, visit: Visit
) -> None:
    visitor = visit(looking(serve))
    visitor.use_default_mechanisms()
    visitor.generate("The lighthouse keeper", 40)
    visitor.expect_state("Finished")
    visitor.tokens.nth(AT).click()
    panel = visitor.page.get_by_role("region", name="What if?")
    expect(panel.get_by_role("slider")).to_have_count(3)
    attention = panel.get_by_role("table", name="Attention")
    expect(attention).to_be_visible()
    assert lines(attention) == [
        "5 to 10 % | <b>sea, another token | 20 to 25 %",
        "20 to 30 % | town, another token | 29 to 34 %",
        "40 to 100 % | sea, taken | 38 to 65 %",
    ]
    assert attention.locator("tr.is-other").count() == 2
    bits = panel.get_by_role("table", name="Bits")
    assert lines(bits) == ["5 to 16 bits | sea, taken | 70 %"]
    headings = panel.locator("h3").all_text_contents()
    assert "Attentionchanges at 20, 40 %" in headings
    assert "Bitsthe same at every level" in headings

    # The curves name the token of each level.
    strips = panel.locator(".sol-lens-strip").evaluate_all(
        "(all) => all.map((one) => [...one.children].map((part) => part.style.cssText))"
    )
    assert strips[0] == ["--n: 2;", "--n: 2;", "--n: 7;"]
    plot = panel.get_by_role("slider", name="Attention")
    plot.press("Home")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("^5 %: .*would choose <b>sea$"))
    expect(panel.locator(".sol-lens-readout").first).to_contain_text("<b>sea")
    plot.press("ArrowRight")
    plot.press("ArrowRight")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("^20 %: .*would choose town$"))
