"""The page by keyboard: the link past its head, the tabs as one stop, the way to the answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Server, Visitor
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
STOPS = 10  # of the Tab key at most, from the page's top to the answer
# Pressed one after another from Explore on, and the tab that has the focus then.
KEYS = (
    ("ArrowRight", "Inspect"),
    ("ArrowRight", "Learn"),
    ("ArrowLeft", "Inspect"),
    ("End", "History"),
    ("ArrowRight", "Explore"),
    ("ArrowLeft", "History"),
    ("Home", "Explore"),
    ("ArrowRight", "Inspect"),
)


def opened(visit: Visit, server: Server, width: int) -> Visitor:
    """At the top of a first visit's page whose head is ready."""
    visitor = visit(server, viewport={"width": width, "height": 900})
    visitor.page.evaluate("localStorage.clear()")
    visitor.page.reload()  # nothing has the focus
    expect(visitor.page.locator("[role=tab][tabindex='0']")).to_have_text("Explore")
    return visitor


def stops_to(target: Locator, most: int = 40) -> int:
    """How often Tab is pressed until the target has the focus."""
    for pressed in range(1, most + 1):
        target.page.keyboard.press("Tab")
        if target.evaluate("(node) => node === document.activeElement"):
            return pressed
    raise AssertionError(f"{target} is not among the first {most} stops")


def test_the_first_stop_is_a_link_past_the_head(serve: Serve, visit: Visit) -> None:
    visitor = opened(visit, serve(), 390)
    page = visitor.page
    link = page.get_by_role("link", name="Skip to the page")
    box = link.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 0
    page.keyboard.press("Tab")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    address = page.url
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel", name="Explore", exact=True)).to_be_focused()
    assert page.url == address
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider", name="Compute")).to_be_focused()


def test_the_answer_is_few_stops_from_the_top(serve: Serve, visit: Visit) -> None:
    visitor = opened(visit, serve(FakeEngine(step_s=0.001)), 1280)
    page = visitor.page
    assert stops_to(page.get_by_role("slider", name="Compute")) <= STOPS
    assert stops_to(page.get_by_role("button", name="Try your own prompt")) <= STOPS
    assert page.locator("[tabindex]:not([tabindex='0'], [tabindex='-1'])").count() == 0
    page.keyboard.press("Enter")
    expect(visitor.prompt).to_be_focused()
    assert stops_to(page.get_by_role("button", name="Generate")) == 1
    page.keyboard.press("Enter")
    visitor.expect_state("Finished")
    page.reload()
    visitor.expect_state("Finished")
    assert stops_to(visitor.tokens.first) <= STOPS


def test_arrows_walk_the_tabs_and_enter_shows_one(serve: Serve, visit: Visit) -> None:
    visitor = opened(visit, serve(), 1280)
    page = visitor.page

    def tab(name: str) -> Locator:
        return page.get_by_role("tab", name=name, exact=True)

    stops = page.locator("[role=tab][tabindex='0']")
    tab("Explore").focus()
    for key, name in KEYS:
        page.keyboard.press(key)
        expect(tab(name)).to_be_focused()
    expect(tab("Explore")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(tab("Inspect")).to_have_attribute("aria-selected", "true")
    expect(stops).to_have_text(["Inspect"])
    # The tabs are made anew when the window narrows.
    page.set_viewport_size({"width": 250, "height": 900})
    expect(page.get_by_role("button", name="More tabs")).to_be_visible()
    expect(stops).to_have_count(1)
