"""Hostile text in every text field of every tab, and in every part of the address."""

from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LAB_VIEWS
from tests.browser.site.test_accessibility import TABS
from tests.support.fake_engine import FakeEngine
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

pytestmark = pytest.mark.browser
HOSTILE = (
    '<img src=x onerror="window.bad = 1"> ${window.bad = 2} {{7*7}} `x` %s \'";-- '
    "</textarea><script>window.bad = 3</script> \u202eabc \u0000 " + "long" * 300
)
FIELDS = "input:is([type=text], [type=search], [type=password], :not([type])), textarea"


def stays_text(page):
    assert page.evaluate("window.bad") is None
    assert page.locator("img[src=x]").count() == 0
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def fill_everything(page):
    """Types into every field in view, those behind "Advanced" too; says how many there are."""
    page.locator(".sol-page:visible details").evaluate_all(
        "(all) => all.forEach((one) => { one.open = true; })"
    )
    fields = page.locator(f".sol-page:visible :is({FIELDS})").locator("visible=true")
    for field in fields.all():
        if field.is_enabled():
            field.fill(HOSTILE)
            field.press("Tab")
    return fields.count()


def room_of(page, name):
    """The tab of a room, or of the room that has such a view."""
    return page.get_by_role("tab", name="Lab" if name in LAB_VIEWS else name, exact=True)


@pytest.fixture
def server(serve, tmp_path, monkeypatch):
    monkeypatch.setattr("app.policies.library.SHIPPED_FOLDER", tmp_path / "none")
    made = serve(FakeEngine(step_s=0.001))
    save_tiny_policy(make_language_model(), made.services.data_dir.policies / "tiny")
    return made


def test_every_field_of_every_tab_takes_it_and_a_reload_gives_it_back(server, visit):
    visitor = visit(server, viewport={"width": 360, "height": 800})
    page = visitor.page
    for tab in TABS:
        visitor.tab(tab)
        if tab == "Learn":
            page.locator(".sol-learn-link", has_text="Glossary").click()
        page.locator(".sol-page:visible").first.wait_for()
        page.wait_for_timeout(500)
        # Policies has fields only in its dialogs.
        assert fill_everything(page) >= 1 or tab == "Policies", tab
        stays_text(page)
        for button in page.locator(".sol-page:visible [type=submit]").locator("visible=true").all():
            if button.is_enabled():
                button.click()
        page.wait_for_timeout(500)
        stays_text(page)
        page.reload()
        expect(room_of(page, tab).locator("visible=true").first).to_be_visible()
        page.wait_for_timeout(500)
        stays_text(page)


ADDRESSES = (
    ("Explore", "run={0}&token={0}&colour={0}&lens={0}"),
    ("Inspect", "inspection={0}&inspect-token={0}&inspect-row={0}&inspect-colour={0}"),
    ("Explore", "compare={0},{0}&compare-colour={0}"), ("Explore", "challenge={0}"),
    ("Train", "train={0}"), ("Evaluate", "evaluation={0}"), ("Accuracy", "accuracy={0}"),
    ("Policies", "policy={0}"), ("Learn", "lesson={0}"), ("Learn", "room={0}"),
    ("History", "tab=history&search={0}"), ("Explore", "tab={0}"),
    ("Explore", "run=..%2F..%2Fetc&token=-1&lens=.....9&colour="),
)  # fmt: skip


def test_an_address_may_hold_anything(server, visit):
    visitor = visit(server)
    page = visitor.page
    for tab, query in ADDRESSES:
        page.goto(f"{visitor.url}?{query.format(quote(HOSTILE[:300]))}")
        shown = room_of(page, tab)
        expect(shown, query).to_have_attribute("aria-selected", "true")
        page.wait_for_timeout(800)
        stays_text(page)
        visitor.tab("Learn" if tab == "History" else "History")
        page.go_back()
        expect(shown, query).to_have_attribute("aria-selected", "true")
        stays_text(page)
