"""Explore's second column over the real engine with a tiny model: an answer beside another one."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import WARM_UP_MS, Server, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Visit = Callable[..., Visitor]
TOLD = re.compile("First difference at token|wrote the same 12 tokens")


def answered(visitor: Visitor) -> Locator:
    """The form of the second column, beside a finished answer of twelve tokens."""
    visitor.set_advanced("Max new tokens", "12")
    visitor.page.get_by_label("Ignore end of text").check(force=True)
    visitor.generate("The keeper")
    visitor.expect_state("Finished", timeout=WARM_UP_MS)
    visitor.page.get_by_role("button", name="Compare with …").click()
    return visitor.page.get_by_role("form", name="Compare with")


def test_two_texts_are_aligned_and_come_back_by_their_link(
    tiny_server: Server, visit: Visit
) -> None:
    visitor = visit(tiny_server)
    page = visitor.page
    form = answered(visitor)
    expect(page.locator(".sol-pair-grid .sol-token").first).to_be_visible()
    form.get_by_role("radio", name="Full model").check(force=True)
    form.get_by_role("button", name="Compare", exact=True).click()
    note = page.locator(".sol-pair-parted")
    expect(note).to_have_text(TOLD, timeout=WARM_UP_MS)
    rows = page.locator(".sol-pair-table tbody tr")
    expect(rows.filter(has_text="NLL under the full model")).to_have_text(
        re.compile(r"\d\.\d{3}.*\d\.\d{3}")
    )
    texts = page.locator(".sol-pair-grid .sol-token").all_text_contents()
    verdict = page.locator(".sol-pair .sol-finding")
    expect(verdict).to_contain_text("Too few to tell")
    told = note.inner_text()

    page.reload()
    expect(note).to_have_text(told)
    assert page.locator(".sol-pair-grid .sol-token").all_text_contents() == texts
    address = page.url
    page.goto(f"{address}&tab=compare")  # as links of earlier releases have it
    expect(note).to_have_text(told)

    # From History, with a saved run.
    visitor.tab("History")
    page.get_by_role("button", name=re.compile("^Compare")).first.click()
    form.get_by_role("radio", name="A saved run").check(force=True)
    form.get_by_role("button", name="Compare", exact=True).click()
    expect(note).to_have_text(TOLD)
    page.get_by_role("button", name="Back to the answer").click()
    expect(page.get_by_role("button", name="Generate")).to_be_visible()
    visitor.expect_state("Finished")
