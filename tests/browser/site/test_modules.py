"""The pages' modules in a browser: kept for good; another release's; what a verdict says."""

import re

import pytest
from playwright.sync_api import expect

from app.web.modules import JS, module_url

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


COMPARED = {
    "name": "policy mine", "other": "static", "gains": [[0.012, 0.004, 0.02]], "samples": 400,
    "word": "scored token", "enough": 200, "spent": [[0.741, 0.743]],
}  # fmt: skip
ASKED = """([name, compared]) => import(new URL(name, document.baseURI)).then((verdict) => {
  const found = verdict.verdictOf({ ...compared, text: String, unit: "nats a token" });
  return found && [found.kind, found.head + found.rest];
})"""
GAINS = """([name, own, other]) => import(new URL(name, document.baseURI)).then((verdict) =>
  [verdict.pairedGain(own, other), verdict.apartGain(own, other)])"""

CASES = (
    ({}, "good", "Better: policy mine against static, 0.012 nats a token (95 % interval 0.004 to "
     "0.02). Compute: 74.1 % against 74.3 %."),
    ({"gains": [[-0.012, -0.02, -0.004]]}, "bad", "Worse: policy mine against static, -0.012"),
    ({"gains": [[0.002, -0.004, 0.008]]}, "open", "No difference shown: policy mine against"),
    ({"samples": 199}, "open", "Too few to tell: 199 scored tokens. A verdict needs 200."),
    # The winner spent more, or nobody won at unequal spend.
    ({"spent": [[0.8, 0.74]]}, "open", "No comparison at equal bytes: policy mine spends 6.0 "
     "points more than static (80.0 % against 74.0 % compute)."),
    ({"spent": [[0.8, 0.74]], "gains": [[0, -1, 1]]}, "open", "No comparison at equal bytes"),
    # The winner spent less: it won all the same.
    ({"spent": [[0.7, 0.74]]}, "good", "Better"),
    ({"gains": [[0.01, 0.002, 0.02], [0, -0.01, 0.01]], "spent": [[0.5, 0.5], [0.6, 0.605]]},
     "good", "Better at 1, no difference shown at 1 of 2 budgets: policy mine against static, "
     "0.005 nats a token on average (95 % intervals between -0.01 and 0.02). Compute matched to "
     "0.5 points."),
    ({"gains": [[0.01, 0.002, 0.02], [-0.2, -0.3, -0.1]], "spent": []}, "open",
     "Better at 1, worse at 1 of 2 budgets"),
)  # fmt: skip


def test_a_verdict_says_no_more_than_was_measured(serve, visit):
    page = visit(serve()).page
    name = module_url("shared/verdict.js")
    for change, kind, begin in CASES:
        found = page.evaluate(ASKED, [name, COMPARED | change])
        assert found[0] == kind
        assert found[1].replace("−", "-").startswith(begin)
    for gains in ([], [[0.1, None, 0.2]]):
        assert page.evaluate(ASKED, [name, COMPARED | {"gains": gains}]) is None

    # Gains: paired differences of 1 without any spread; apart, the spread of the texts stays.
    own, other = [n % 20 for n in range(400)], [n % 20 + 1 for n in range(400)]
    paired, apart = page.evaluate(GAINS, [name, own, other])
    assert paired == [1, 1, 1]
    assert apart[0] == 1
    assert apart[1] < 0 < 1 < apart[2]
