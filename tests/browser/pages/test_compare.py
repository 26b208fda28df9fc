"""The Compare page over the real engine with a tiny model: two texts side by side."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from app.host.paths import DataDir
from app.web.services import engine_generate
from tests.browser.conftest import WARM_UP_MS, Server, Visitor
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> Server:
    model = dataclasses.replace(make_language_model(), name="fake-model")
    data_dir = DataDir(tmp_path / "data")
    save_tiny_policy(model, data_dir.policies / "tiny")
    return serve(engine_generate(data_dir), load=lambda on_progress: model)


def compare_page(visitor: Visitor) -> Locator:
    visitor.tab("Compare")
    return visitor.page.locator(".sol-compare")


def test_two_texts_are_aligned_and_come_back_by_their_link(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = compare_page(visitor)
    page.get_by_label("Max new tokens").first.fill("12")
    page.get_by_text("Advanced, for both sides").click()
    page.get_by_label("Ignore end of text").check(force=True)
    page.get_by_role("radio", name="Dense").first.check(force=True)
    page.get_by_role("button", name="Generate both").click()
    note = page.locator(".sol-pair-parted")
    told = re.compile("First difference at token|wrote the same 12 tokens")
    expect(note).to_have_text(told, timeout=WARM_UP_MS)
    rows = page.locator(".sol-pair-table tbody tr")
    expect(rows.filter(has_text="NLL under the dense model")).to_have_text(
        re.compile(r"\d\.\d{3}.*\d\.\d{3}")
    )
    expect(rows.filter(has_text="KL to dense").locator("td").nth(1)).to_have_text(
        re.compile(r"\d\.\d{3}")
    )
    texts = page.locator(".sol-pair-grid .sol-token").all_text_contents()
    assert len(texts) == 24
    found = note.inner_text()

    visitor.page.reload()
    expect(note).to_have_text(found)
    assert page.locator(".sol-pair-grid .sol-token").all_text_contents() == texts
    # From History: the chosen run is A, the other one follows.
    visitor.tab("History")
    visitor.page.get_by_role("button", name=re.compile("^Compare")).first.click()
    page.get_by_role("button", name="Compare these runs").click()
    expect(note).to_have_text(re.compile("First difference|wrote the same"))


def test_the_papers_mechanisms_stand_against_the_default_ones(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = compare_page(visitor)
    names = {"a": "Paper: page bounds", "b": "Default: 4-bit keys"}
    page.get_by_label("Max new tokens").first.fill("12")
    page.get_by_text("Advanced, for both sides").click()
    page.get_by_label("Ignore end of text").check(force=True)
    for at, name in names.items():
        side = page.locator(f"details[data-side={at}]")
        if not side.evaluate("(node) => node.open"):
            side.locator("summary").click()
        side.get_by_role("radio", name="Static").check(force=True)
        side.get_by_role("radio", name=name).check(force=True)
    page.get_by_role("button", name="Generate both").click()
    note = page.locator(".sol-pair-parted")
    told = re.compile("First difference at token|wrote the same 12 tokens")
    expect(note).to_have_text(told, timeout=WARM_UP_MS)
    for line in ("KL to dense", "Bytes saved"):
        values = page.locator(".sol-pair-table tbody tr").filter(has_text=line).locator("td")
        assert values.nth(0).inner_text() != values.nth(1).inner_text()
    visitor.page.reload()
    expect(note).to_have_text(told)
    for at, name in names.items():
        expect(page.locator(f".sol-pair-head[data-side={at}]")).to_contain_text(name)
        expect(page.locator(f"details[data-side={at}] summary")).to_contain_text(name)
