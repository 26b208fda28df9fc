"""axe over every tab and export, in both themes and all widths; the page by keyboard."""

import pytest
from playwright.sync_api import expect

from app.host.paths import DataDir
from app.sharing.kinds import export
from app.web.services import engine_run
from storage import TASKS_JOB, open_store
from tests.browser.axe import violations
from tests.browser.conftest import ENDED, WARM_UP_MS
from tests.browser.exported import offline
from tests.support import job_samples
from tests.support.comparison_samples import save_pair
from tests.support.fake_engine import FakeEngine
from tests.support.inspection_samples import save_inspection
from tests.support.tasks_samples import tasks_result
from tests.support.tiny_language_model import make_long_model

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
ROOMS = ("Explore", "Inspect", "Learn", "Accuracy", "History")  # one view of the Lab's four
TABS = (*ROOMS, "Train", "Evaluate", "Policies")
WIDTHS = (360, 768, 1280, 2560, 3840)  # from a phone's to 4k


@pytest.fixture
def server(serve, tmp_path, stand_in_policies):
    """A tiny model, a training that goes on and an evaluation that has ended."""
    model = make_long_model("fake-model")
    made = serve(engine_run(DataDir(tmp_path)), load=lambda on_progress: model)
    job_samples.store_policy(made.services.data_dir.policies, "mine")
    store, about = made.services.store, {"model": "fake-model", "policy": "mine"}
    job_samples.finished_evaluation(store)
    job_samples.finished_job(store, TASKS_JOB, about, tasks_result("mine"))
    job_samples.running_training(store)
    return made


def fill_explore(visitor):
    visitor.page.get_by_role("radio", name="Random").check(force=True)
    visitor.set_advanced("Max new tokens", "24")
    visitor.page.get_by_label("Ignore end of text").check(force=True)
    visitor.answer("The keeper of the light wrote down", timeout=WARM_UP_MS)
    visitor.tokens.nth(3).click()
    expect(visitor.page.locator(".sol-lens-line").first).to_be_attached(timeout=WARM_UP_MS)


def fill_inspect(visitor):
    form = visitor.page.locator(".sol-inspect form")
    form.get_by_label("Text", exact=True).fill("The keeper wrote: 12 boats came home. " * 2)
    form.get_by_role("button", name="Inspect", exact=True).click()
    state = visitor.page.locator(".sol-inspect .sol-state").first
    expect(state).to_have_text(ENDED, timeout=WARM_UP_MS)
    visitor.page.locator(".sol-inspect .sol-lines .sol-token").nth(3).click()
    expect(visitor.page.locator(".sol-inspect .sol-lens-line").first).to_be_attached(
        timeout=WARM_UP_MS
    )


def fill_learn(visitor):
    lesson = visitor.page.locator(".sol-lesson:visible")
    visitor.page.get_by_role("button", name="Next step").click()  # the first is the dial
    lesson.get_by_role("radio").first.check()
    lesson.get_by_role("button", name="Commit and measure").click()
    expect(lesson.locator(".sol-learn-figure tbody tr").first).to_be_visible(timeout=WARM_UP_MS)


FILL = {"Explore": fill_explore, "Inspect": fill_inspect, "Learn": fill_learn}
LOOKS = {
    "light": ("light", {"width": 1280, "height": 900}),
    "narrow": ("dark", {"width": 360, "height": 740}),
}


@pytest.mark.parametrize(
    ("look", "tabs"),
    [
        pytest.param("light", TABS, marks=pytest.mark.release),
        pytest.param("narrow", TABS[len(ROOMS) :], marks=pytest.mark.release),
        ("narrow", ROOMS),
    ],
)
def test_axe_finds_nothing_on_any_tab_and_nothing_overflows(server, visit, look, tabs):
    """Every tab is filled once; size and colours change under it, as a user's may."""
    scheme, size = LOOKS[look]
    visitor = visit(server, reduced_motion="reduce")
    page, found = visitor.page, list[str]()
    for tab in tabs:
        page.set_viewport_size(LOOKS["light"][1])
        visitor.tab(tab)
        FILL.get(tab, lambda visitor: None)(visitor)
        found += [f"{tab}: {line}" for line in visitor.overflows(*WIDTHS)]
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size(size)
        page.wait_for_timeout(400)
        found += [f"{tab}: {line}" for line in violations(page)]
    assert found == [], "\n".join(found)


WORDS = ("The", "keeper", "<b>", "of", "the", "light", "wrote:", "12", "boats", "came", "home", ".")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An exported page of every kind."""
    folder = tmp_path_factory.mktemp("pages")
    with open_store(folder / "sol.sqlite3") as store:
        pair = save_pair(store, WORDS, (*WORDS[:4], "a", *WORDS[5:]))
        inspection = save_inspection(store, WORDS)
        things = {"run": pair.split(",")[0], "comparison": pair, "inspection": inspection}
        for kind, thing in things.items():
            page = export(store, kind, thing, "html").text
            (folder / f"{kind}.html").write_text(page, encoding="utf-8")
    return {kind: folder / f"{kind}.html" for kind in things}


@pytest.mark.release
@pytest.mark.parametrize("kind", ["run", "inspection", "comparison"])
def test_axe_finds_nothing_on_an_exported_page(chromium, files, kind):
    page, problems = offline(chromium, files[kind], reduced_motion="reduce")
    token = page.locator(".sol-token[role=option]")
    token.first.wait_for()
    found = list(violations(page))
    # Axe sees only what is open: a selection, a card, the settings.
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    token.nth(2).focus()
    page.keyboard.press("Space")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_timeout(300)
    found += violations(page)
    assert found == [], "\n".join(found)
    assert problems == []
    page.context.close()


STOPS = 10  # of the Tab key at most, from the page's top to the answer
# Pressed one after another from Explore on, and the tab that has the focus then.
KEYS = (
    ("ArrowRight", "Inspect"), ("ArrowRight", "Learn"), ("ArrowLeft", "Inspect"),
    ("End", "History"), ("ArrowRight", "Explore"), ("ArrowLeft", "History"), ("Home", "Explore"),
    ("ArrowRight", "Inspect"),
)  # fmt: skip


def opened(visit, server, width):
    """At the top of a first visit's page whose head is ready."""
    visitor = visit(server, viewport={"width": width, "height": 900})
    visitor.page.evaluate("localStorage.clear()")
    visitor.page.reload()  # nothing has the focus
    expect(visitor.page.locator("[role=tab][tabindex='0']")).to_have_text("Explore")
    return visitor


def stops_to(target, most=40):
    """How often Tab is pressed until the target has the focus."""
    for pressed in range(1, most + 1):
        target.page.keyboard.press("Tab")
        if target.evaluate("(node) => node === document.activeElement"):
            return pressed
    raise AssertionError(f"{target} is not among the first {most} stops")


def test_the_first_stop_is_a_link_past_the_head(serve, visit):
    visitor = opened(visit, serve(), 390)
    page = visitor.page
    link = page.get_by_role("link", name="Skip to the page")
    box = link.bounding_box()
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


def test_the_answer_is_few_stops_from_the_top(serve, visit):
    visitor = opened(visit, serve(FakeEngine(step_s=0.001)), 1280)
    page = visitor.page
    assert stops_to(page.get_by_role("slider", name="Compute")) <= STOPS
    assert stops_to(page.get_by_role("button", name="Try your own prompt")) <= STOPS
    assert page.locator("[tabindex]:not([tabindex='0'], [tabindex='-1'])").count() == 0
    page.keyboard.press("Enter")
    expect(visitor.prompt).to_be_focused()
    assert stops_to(page.get_by_role("button", name="Generate")) == 1
    page.keyboard.press("Enter")
    visitor.expect_state(ENDED)
    page.reload()
    visitor.expect_state(ENDED)
    assert stops_to(visitor.tokens.first) <= STOPS
    visitor.prompt.focus()
    assert stops_to(page.get_by_role("button", name="To the answer")) == 2  # after Generate
    page.keyboard.press("Enter")
    expect(visitor.tokens.first).to_be_focused()


def test_arrows_walk_the_tabs_and_enter_shows_one(serve, visit):
    visitor = opened(visit, serve(), 1280)
    page = visitor.page

    def tab(name):
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
