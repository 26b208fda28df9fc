"""Keeping and sharing: files out and back, links to a state, the library of policies."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.exported import offline
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
HOSTILE = (
    *("</script><script>window.bad = 1</script>", "<img src=x onerror='window.bad=1'>"),
    *("${7*7}", "<!--", "\u202e", "\n", " sea"),
)


def saved(page, press, folder):
    """Where the file lies that the page gave to keep."""
    with page.expect_download() as download:
        press()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def import_file(page, file, button="Import a file"):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button).click()
    chooser.value.set_files(file)


def ended(alone, problems):
    """The exported page did no harm and fits its screen."""
    assert alone.evaluate("window.bad") is None
    assert alone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert problems == []
    alone.context.close()


def test_a_run_is_exported_by_keyboard_looked_at_offline_and_imported(
    serve, visit, chromium, tmp_path
):
    visitor = visit(serve(FakeEngine(tokens=HOSTILE, step_s=0.001)))
    page = visitor.page
    visitor.answer("Is </script> </title> safe?", max_new_tokens=30)
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
    last, verdict = tokens.last.bounding_box(), alone.get_by_label("Verdict").bounding_box()
    assert verdict["y"] - last["y"] - last["height"] < 60  # right below the answer
    expect(alone.locator(".sol-plot svg")).to_have_count(2)
    tokens.first.focus()
    alone.keyboard.press("ArrowRight")
    expect(alone.locator(".sol-card")).to_contain_text("token 2")
    alone.keyboard.press("Escape")  # it may lie over the colours' pills
    alone.get_by_role("radio", name="Surprisal").check(force=True)
    alone.get_by_text("Numbers and charts", exact=True).click()
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


def test_policies_go_out_come_back_are_renamed_and_deleted(serve, visit, tmp_path):
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
