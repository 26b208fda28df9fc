"""Keeping and sharing: files out and back, links to a state, the library of policies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.errors import AppError
from app.lens_desk import LensDesk
from tests.browser.conftest import Server, Visitor
from tests.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
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
    page.get_by_role("button", name="Spend against budget: save as an image").click()
    item = page.locator(".sol-menu-list:visible").get_by_role("button", name="SVG")
    assert saved(page, item.click, tmp_path).read_text().startswith("<svg")

    # The page explains itself without server and network, and runs nothing but its own script.
    context = chromium.new_context(offline=True, color_scheme="dark")
    alone = context.new_page()
    problems: list[str] = []
    alone.on("pageerror", lambda error: problems.append(str(error)))
    alone.on("console", lambda line: problems.append(line.text))
    alone.goto(html.as_uri())
    tokens = alone.locator(".sol-lines .sol-token")
    expect(tokens).to_have_count(30)
    expect(tokens.first).to_have_text(HOSTILE[0])
    expect(alone.locator(".sol-plot svg")).to_have_count(2)
    tokens.first.focus()
    alone.keyboard.press("ArrowRight")
    expect(alone.locator(".sol-card")).to_contain_text("token 2")
    alone.get_by_role("radio", name="Surprisal").check(force=True)
    assert alone.evaluate("[window.bad, getComputedStyle(document.body).colorScheme]") == [
        None,
        "light dark",
    ]
    for form, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        alone.get_by_role("button", name="Quality: save as an image").click()
        item = alone.locator(".sol-menu-list:visible").get_by_role("button", name=form)
        assert saved(alone, item.click, tmp_path).read_bytes().startswith(begins)
    assert problems == []
    context.close()

    visitor.tab("History")
    expect(page.get_by_role("listitem")).to_have_count(1)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import a run").click()
    chooser.value.set_files(document)
    expect(page.get_by_role("tab", name="Explore")).to_have_attribute("aria-selected", "true")
    expect(visitor.tokens).to_have_count(30)
    assert visitor.run_id() != json.loads(document.read_text())["run"]["id"]
    visitor.tab("History")
    expect(page.get_by_role("listitem")).to_have_count(2)
    document.write_text(document.read_text().replace('"version": 1', '"version": 9'))
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import a run").click()
    chooser.value.set_files(document)
    expect(page.get_by_role("alert")).to_contain_text("update SOL Explorer")
    expect(page.get_by_role("listitem")).to_have_count(2)


def test_a_link_opens_tab_run_token_and_colour_and_a_reload_stays(
    serve: Serve, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AppError("the stand-in model has no tokenizer to look with")

    monkeypatch.setattr(LensDesk, "look", refuse)
    server = serve(FakeEngine(step_s=0.001))
    anna = visit(server)
    anna.generate("Share me", max_new_tokens=12)
    anna.expect_state("Finished")
    anna.page.locator(".sol-legend").get_by_text("Bits", exact=True).first.click()
    anna.tokens.nth(4).click()
    expect(anna.page).to_have_url(re.compile(r"\?run=[\w-]+&colour=bits&token=5$"))
    anna.page.get_by_role("button", name="Copy link").click()
    link = anna.page.evaluate("navigator.clipboard.readText()").removeprefix(server.url)
    ben = visit(server, link)
    expect(ben.tokens.nth(4)).to_have_class(re.compile("is-picked"))
    expect(ben.page.locator(".sol-legend input:checked")).to_have_value("bits")
    ben.tab("Policies")
    expect(ben.page.get_by_role("heading", name="default")).to_be_visible()
    ben.page.reload()
    expect(ben.page.get_by_role("tab", name="Policies")).to_have_attribute("aria-selected", "true")
    ben.page.go_back()
    expect(ben.page.get_by_role("tab", name="Explore")).to_have_attribute("aria-selected", "true")
    expect(ben.tokens).to_have_count(12)


def test_policies_go_out_come_back_are_renamed_tagged_and_deleted(
    serve: Serve, visit: Visit, tmp_path: Path
) -> None:
    visitor = visit(serve())
    page = visitor.page
    visitor.tab("Policies")
    name = page.locator(".sol-policy-name")
    expect(name).to_have_text("default")
    expect(page.locator(".sol-policies .sol-tiles")).to_contain_text("static 0.442")
    page.get_by_role("button", name="Export default").click()
    archive = saved(page, page.locator(".sol-policies .sol-menu-list button").first.click, tmp_path)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import a zip").click()
    chooser.value.set_files(archive)
    expect(name).to_have_text("default-2")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("<b>")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("is no policy's name")
    page.get_by_label("New name").fill("mine")
    page.keyboard.press("Enter")
    expect(name).to_have_text("mine")
    expect(page).to_have_url(re.compile("policy=mine"))
    page.get_by_role("button", name="Tags").click()
    page.get_by_role("textbox", name="Tags").fill("novel, Best")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".sol-status .sol-tag")).to_have_text(["best", "novel"])
    visitor.tab("Explore")
    expect(page.locator(".sol-explore select option").filter(has_text="mine")).to_have_count(1)
    page.go_back()
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing else names it.")
    page.keyboard.press("Enter")  # the safe answer has the focus
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog.get_by_role("button", name="Delete").click()
    expect(name).to_have_text("default")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import a zip").click()
    chooser.value.set_files(tmp_path / "bad.zip")
    expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("no zip")
