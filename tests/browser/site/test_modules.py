"""The pages' modules in a browser: kept for good; another release's."""

import re

import pytest
from playwright.sync_api import expect

from app.web.assets import JS

pytestmark = pytest.mark.browser
TABS = ["Inspect", "Learn", "Train", "Evaluate", "Accuracy", "Policies", "History"]
MODULE = re.compile(r"/gradio_api/sol-modules/[0-9a-f]{16}/(.+)")


def loaded(visitor):
    """Modules that the page has asked for, and what came over the wire for each, bytes."""
    entries = visitor.page.evaluate(
        "performance.getEntriesByType('resource').map((one) => [one.name, one.transferSize])"
    )
    found = [(MODULE.search(url), size) for url, size in entries]
    names = [match.group(1) for match, _ in found if match]
    assert len(names) == len(set(names)), "a module is asked for once"
    return {match.group(1): size for match, size in found if match}


def test_tabs_share_modules_and_a_reload_fetches_none(serve, visit):
    # Options give a profile of its own, which has no module yet.
    visitor = visit(serve(), accept_downloads=True)
    first = loaded(visitor)
    assert {"header.js", "explore/explore.js", "shared/dom.js"} <= set(first)
    assert not [name for name in first if re.match("train|inspect|learn", name)]
    assert all(first.values())
    for tab in TABS:
        visitor.tab(tab)
        expect(visitor.page.locator(f".sol-{tab.lower()} :visible").first).to_be_visible()
    every = {path.relative_to(JS).as_posix() for path in JS.rglob("*.js")}
    missing = every - set(loaded(visitor))
    assert all(name.startswith("sharing/") for name in missing), "every module is of use"
    visitor.page.reload()
    expect(visitor.page.locator(".sol-history :visible").first).to_be_visible()
    assert set(loaded(visitor).values()) == {0}


def test_a_page_whose_modules_are_gone_says_so(serve, chromium):
    context = chromium.new_context()
    page = context.new_page()
    page.route(MODULE, lambda route: route.fulfill(status=404))
    page.goto(serve().url)
    expect(page.locator(".sol-explore")).to_have_text(re.compile("older release.*Reload it"))
    context.close()
