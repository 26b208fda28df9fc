"""Keeping and sharing: files out and back, links to a state, the library of policies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Server, Visitor
from tests.browser.exported import offline
from tests.support.comparison_samples import save_pair
from tests.support.fake_engine import FakeEngine
from tests.support.inspection_samples import save_inspection

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
PHONE = {"width": 360, "height": 800}
HOSTILE = (
    *("</script><script>window.bad = 1</script>", "<img src=x onerror='window.bad=1'>"),
    *("${7*7}", "<!--", "\u202e", "\n", " sea"),
)


def saved(page: Page, press: Callable[[], None], folder: Path) -> Path:
    """Where the file lies that the page gave to keep."""
    with page.expect_download() as download:
        press()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def import_file(page: Page, file: Path, button: str = "Import a file") -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button).click()
    chooser.value.set_files(file)


def ended(alone: Page, problems: list[str]) -> None:
    """The exported page did no harm and fits its screen."""
    assert alone.evaluate("window.bad") is None
    assert alone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert problems == []
    alone.context.close()


def test_a_run_is_exported_by_keyboard_looked_at_offline_and_imported(
    serve: Serve, visit: Visit, chromium: Browser, tmp_path: Path
) -> None:
    visitor = visit(serve(FakeEngine(tokens=HOSTILE, step_s=0.001)))
    page = visitor.page
    visitor.generate("Is </script> </title> safe?", max_new_tokens=30)
    visitor.expect_state("Finished")
    page.get_by_role("button", name="Export", exact=True).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    html = saved(page, lambda: page.keyboard.press("Enter"), tmp_path)
    assert html.name == "run-is-script-title-safe.html"
    page.get_by_role("button", name="Export", exact=True).click()
    document = saved(page, page.get_by_role("button", name="JSON").click, tmp_path)

    # The page explains itself without server and network, and runs nothing but its own script.
    alone, problems = offline(chromium, html, color_scheme="dark")
    tokens = alone.locator(".sol-lines .sol-token")
    expect(tokens).to_have_count(30)
    expect(tokens.first).to_have_text(HOSTILE[0])
    expect(alone.locator(".sol-plot svg")).to_have_count(2)
    tokens.first.focus()
    alone.keyboard.press("ArrowRight")
    expect(alone.locator(".sol-card")).to_contain_text("token 2")
    alone.keyboard.press("Escape")  # it may lie over the colours' pills
    alone.get_by_role("radio", name="Surprisal").check(force=True)
    alone.get_by_label("Quality: measure").select_option("Surprisal")
    expect(alone.get_by_text("All rows score the text that this run wrote")).to_be_visible()
    ended(alone, problems)

    visitor.tab("History")
    expect(page.get_by_role("listitem")).to_have_count(1)
    import_file(page, document)
    expect(page.get_by_role("tab", name="Explore")).to_have_attribute("aria-selected", "true")
    expect(visitor.tokens).to_have_count(30)
    assert visitor.run_id() != json.loads(document.read_text())["run"]["id"]
    visitor.tab("History")
    expect(page.get_by_role("listitem")).to_have_count(2)
    document.write_text(document.read_text().replace('"version": 1', '"version": 9'))
    import_file(page, document)
    expect(page.get_by_role("alert")).to_contain_text("update SOL Explorer")
    expect(page.get_by_role("listitem")).to_have_count(2)


def test_an_inspection_goes_out_is_looked_at_offline_and_comes_back(
    serve: Serve, visit: Visit, chromium: Browser, tmp_path: Path
) -> None:
    server = serve()
    inspection_id = save_inspection(server.services.store, HOSTILE * 4, "".join(HOSTILE))
    visitor = visit(server)
    page = visitor.page
    page.goto(f"{server.url}?inspection={inspection_id}")
    shown = page.locator(".sol-inspect .sol-lines .sol-token")
    expect(shown).to_have_count(28)
    page.locator(".sol-inspect").get_by_role("button", name="Export").click()
    document = saved(page, page.get_by_role("button", name="JSON").click, tmp_path)
    visitor.tab("History")
    row = page.get_by_role("listitem")
    row.get_by_role("button", name="Export").click()
    expect(row.get_by_role("button", name="CSV")).to_contain_text("a row per token and schedule")
    html = saved(page, row.get_by_role("button", name="Web page").click, tmp_path)

    alone, problems = offline(chromium, html, viewport=PHONE)
    tokens = alone.locator(".sol-lines .sol-token")
    expect(tokens).to_have_count(28)
    table = alone.get_by_role("group", name="Schedules compared")
    names = ["Full model", "Static", "Policy default", "Uncertainty (EMC)"]
    expect(table.get_by_role("rowheader")).to_have_text(names)
    alone.get_by_role("radio", name="vs static").check(force=True)
    expect(alone.locator(".sol-lines [data-difference]")).to_have_count(28)
    alone.get_by_role("radio", name="Policy default").check(force=True)
    report = alone.get_by_role("region", name="Difficulty report")
    report.get_by_role("button", name=re.compile(r"^Token \d+: .*surprisal")).first.click()
    card = alone.locator(".sol-card")
    expect(card).to_contain_text("The policy's probabilities")
    alone.keyboard.press("Escape")
    expect(card).to_be_hidden()
    alone.get_by_role("radio", name="Side by side").check(force=True)
    expect(tokens).to_have_count(4 * 28)
    expect(alone.locator(".sol-plot svg")).to_have_count(2)
    ended(alone, problems)

    import_file(page, document)
    expect(page.get_by_role("tab", name="Inspect")).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(re.compile(r"inspection=(?!" + inspection_id + ")"))
    expect(shown).to_have_count(28)


def test_a_comparison_goes_out_and_is_looked_at_offline(
    serve: Serve, visit: Visit, chromium: Browser, tmp_path: Path
) -> None:
    server = serve()
    other = (*HOSTILE[:3], " another", *HOSTILE[3:])
    pair = save_pair(server.services.store, HOSTILE, other, ("${7*7}</script>",) * 2)
    page = visit(server).page
    page.goto(f"{server.url}?compare={pair}")
    expect(page.locator(".sol-pair-parted")).to_contain_text("First difference at token 4")
    export_button = page.locator(".sol-pair").get_by_role("button", name="Export")
    html = saved(page, export_button.click, tmp_path)
    assert html.name == "comparison-7-7-script.html"

    alone, problems = offline(chromium, html, viewport=PHONE, color_scheme="dark")
    tokens = alone.locator(".sol-pair-grid .sol-token")
    expect(tokens).to_have_count(15)
    expect(alone.locator(".sol-pair-block.is-apart")).to_have_count(2)
    expect(alone.locator(".sol-pair-parted")).to_contain_text("7 tokens of 8 agree")
    table = alone.get_by_role("region", name="A and B in numbers")
    expect(table.get_by_role("row", name=re.compile("^NLL under the full"))).to_contain_text(".")
    tokens.first.focus()
    alone.keyboard.press("ArrowRight")
    expect(alone.locator(".sol-card")).to_contain_text("token 2")
    expect(alone.locator(".sol-token.is-marked")).to_have_count(2)
    alone.keyboard.press("Escape")  # on a narrow screen the card lies over the choice
    alone.get_by_role("radio", name="Bits").check(force=True)
    ended(alone, problems)


def test_policies_go_out_come_back_are_renamed_and_deleted(
    serve: Serve, visit: Visit, tmp_path: Path
) -> None:
    visitor = visit(serve())
    page = visitor.page
    visitor.tab("Policies")
    name = page.locator(".sol-policy-name")
    expect(name).to_have_text("default")
    export = page.locator(".sol-policies").get_by_role("button", name="Export")
    archive = saved(page, export.click, tmp_path)
    import_file(page, archive, "Import a zip")
    expect(name).to_have_text("default-2")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("<b>")
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert").filter(visible=True)
    expect(alert).to_contain_text("is no policy's name")
    page.get_by_label("New name").fill("mine")
    page.keyboard.press("Enter")
    expect(name).to_have_text("mine")
    expect(page).to_have_url(re.compile("policy=mine"))
    visitor.tab("Explore")
    expect(page.locator(".sol-explore select option").filter(has_text="mine")).to_have_count(1)
    page.go_back()
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(dialog).to_contain_text("Nothing else names it.")
    dialog.get_by_role("button", name="Delete").click()
    expect(name).to_have_text("default")
    archive.write_bytes(b"no zip")
    import_file(page, archive, "Import a zip")
    expect(alert).to_contain_text("no zip")
