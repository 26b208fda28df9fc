"""A real page in a real browser: the app on a free port, Debian's chromium through Playwright."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, TimeoutError, expect, sync_playwright

import sol_core.policy.info
from app.host.paths import DataDir
from app.site.server import launch_app
from app.web.assets import module_url
from app.web.services import Services, build_services
from tests.browser.shared_pages import SharedPages
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.gradio_leftovers import closing_gradio_leftovers
from tests.support.job_samples import read_stand_in

# The shared page at the start of a test. Nothing moves by itself: drawing that is much of a test.
LOOK = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light",
                        "reduced_motion": "reduce"}  # fmt: skip
EVIL = "evil.example"  # a name whose owner points it at this machine
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
             f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"]  # fmt: skip
LAB_VIEWS = ("Train", "Evaluate", "Accuracy", "Policies")
LAB_TABS = tuple(name.lower() for name in LAB_VIEWS)
ENDED = re.compile(r"^(Finished|Cut off at \d+ tokens)$")  # of a run
NAMES = ("chromium", "chromium-browser", "google-chrome")
# Patience costs nothing while tests pass: machines that run them are shared and may be busy.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
# For the first answer of the real engine: its kernels may have to be compiled, on a busy machine.
WARM_UP_MS = 240_000


@dataclass
class Server:
    """A running app and what tests steer it with."""

    url: str
    services: Services
    engine: Any
    close: Callable[[], None]


@dataclass
class Visitor:
    """One browser profile with one page open, and the page's parts by their visible names."""

    page: Page
    url: str
    outside: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def tokens(self):
        return self.page.locator(".sol-lines .sol-token")

    @property
    def prompt(self):
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def card(self):
        return self.page.locator(".sol-card")

    def open(self, query=""):
        """Open Explore, with the form of a prompt of one's own unfolded where it is folded."""
        self.page.goto(self.url + query)
        self.unfold()

    def unfold(self):
        own = self.page.get_by_role("button", name="Try your own prompt")
        generate = self.page.get_by_role("button", name="Generate")
        expect(own.or_(generate).first).to_be_visible()
        if own.is_visible():
            own.click()
        expect(generate).to_be_visible()

    def generate(self, prompt=None, max_new_tokens=None):
        if prompt is not None:
            self.prompt.fill(prompt)
        if max_new_tokens is not None:
            self.set_advanced("Max new tokens", str(max_new_tokens))
        self.page.get_by_role("button", name="Generate").click()

    def answer(self, prompt=None, max_new_tokens=None, timeout=None):
        """Generate to the end."""
        self.generate(prompt, max_new_tokens)
        self.expect_state(ENDED, timeout)

    def set_advanced(self, label, value):
        field_ = self.page.get_by_label(label, exact=True)
        for _ in range(20):  # a page that is still being filled may fold it again
            if field_.is_visible():
                break
            self.page.get_by_text("Advanced", exact=True).locator("visible=true").click()
            self.page.wait_for_timeout(100)
        field_.fill(value)

    def expect_state(self, name, timeout=None):
        state = self.page.locator(".sol-status .sol-state").first
        expect(state).to_have_text(name, timeout=timeout)

    def texts(self):
        return self.tokens.all_text_contents()

    def show_numbers(self):
        """Unfold the panel of numbers and charts."""
        self.page.get_by_text("Numbers and charts", exact=True).click()
        expect(self.page.locator(".sol-tiles").first).to_be_visible()

    def chart(self, number, within=""):
        """A chart of the page by its number, scrolled to."""
        return in_sight(self.page.locator(f"{within} .sol-chart").nth(number))

    def run_id(self):
        found = re.search(r"[?&]run=([\w-]+)", self.page.url)
        return found.group(1) if found else None

    def overflows(self, *widths):
        """Where the page scrolls sideways, of these widths; it is resized, not loaded again."""
        before, found = self.page.viewport_size, []
        for width in widths:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.wait_for_timeout(200)
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                found.append(f"{wide} px at a width of {width}")
        if before is not None:
            self.page.set_viewport_size(before)
        return found

    def tab(self, name):
        """Show a room, or a view of the Lab."""
        if name in LAB_VIEWS:
            self._show_tab("Lab", lambda: self.page.evaluate(_TAB_IN_ADDRESS) in LAB_TABS, True)
            self.page.get_by_role("link", name=name, exact=True).click()
            comes_to(lambda: self.page.evaluate(_TAB_IN_ADDRESS), name.lower())
        else:
            self._show_tab(name, lambda: self.page.evaluate(_TAB_IN_ADDRESS), name.lower())

    def _show_tab(self, name, read, wanted):
        try:
            self._click_tab(name, 5000)
        except TimeoutError:  # moved there while it was clicked: look again
            self._click_tab(name, 30_000)
        comes_to(read, wanted)

    def _click_tab(self, name, timeout):
        tab = self.page.get_by_role("tab", name=name).locator("visible=true")
        more = self.page.locator(".overflow-menu")
        expect(tab.or_(more.locator("visible=true")).first).to_be_visible()
        if tab.count() == 0:
            more.locator("> button").click(timeout=timeout)
            more.locator(".overflow-dropdown button", has_text=name).click(timeout=timeout)
        else:
            tab.click(timeout=timeout)


_TAB_IN_ADDRESS = f"""() => import(new URL("{module_url("shared/tabs.js")}", document.baseURI))
  .then((module) => module.tabOf())"""


def comes_to(read, wanted):
    """Wait until what is read is what is wanted; fail with both where it never is."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while (found := read()) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert found == wanted


def in_sight(chart):
    """The same chart, scrolled to: what nobody sees is not drawn."""
    chart.scroll_into_view_if_needed()
    return chart


def _new_profile(chromium, **options):
    options.setdefault("viewport", LOOK["viewport"])
    context = chromium.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return context


def _forget(page, url):
    """Delete what pages of this address have stored in the profile, but not their files."""
    session = page.context.new_cdp_session(page)
    stored = {"origin": url.rstrip("/"), "storageTypes": "cookies,local_storage,indexeddb"}
    session.send("Storage.clearDataForOrigin", stored)
    session.detach()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def chromium():
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser found; install one of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def profile(chromium):
    """The browser profile of all tests that ask for nothing special, one after another."""
    context = _new_profile(chromium)
    yield context
    context.close()


@pytest.fixture(scope="session")
def shared_pages():
    pages = SharedPages()
    yield pages
    pages.close()


@pytest.fixture
def stand_in_policies(monkeypatch, tmp_path):
    """Stand-in policies only, and none that ships."""
    monkeypatch.setattr("app.policies.library.SHIPPED_POLICY", tmp_path / "none")
    monkeypatch.setitem(vars(sol_core.policy.info), "read_policy_info", read_stand_in)


@pytest.fixture
def serve(tmp_path, shared_pages):
    """The app on a stand-in engine and a data directory of the test."""
    running = []
    own = contextlib.ExitStack()

    def start(engine=None, load=fake_load, folder="data", port=None):
        engine = engine or FakeEngine(step_s=0.01)
        data_dir = DataDir(tmp_path / folder)
        data_dir.prepare()
        services = build_services(data_dir, "fake-model", load, engine)
        lent = None if port else shared_pages.lend(services)
        url, end = lent or start_alone(services, port)

        def close():
            end()
            services.close()

        server = Server(url, services, engine, close)
        running.append(server)
        return server

    def start_alone(services, port):
        if not own_apps:
            own.enter_context(closing_gradio_leftovers())
        app = launch_app(services, host=None, port=port or free_port())
        own_apps.append(app)
        return app.local_url, lambda: app.close(verbose=False)

    own_apps = []
    with own:
        yield start
        for server in running:
            server.close()


def _shut_doors(answer, host):
    """What the gate or Gradio does not know, of this host."""
    is_shut = urlsplit(answer.url).netloc == host and answer.status in (400, 404)
    return [f"{answer.status} {answer.request.method} {answer.url}"] if is_shut else []


def _watch(visitor):
    """Note what the visitor's page asks of other hosts or of no door of ours (``host_guard.py``),
    and complains of; call the result to end."""
    host = urlsplit(visitor.url).netloc

    def look(address):
        parts = urlsplit(address)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != host:
            visitor.outside.append(address)

    def read(line):
        if line.type == "error":
            visitor.problems.append(line.text)

    def refuse(dialog):
        visitor.problems.append(dialog.message)
        dialog.dismiss()

    listeners = {
        "request": lambda request: look(request.url),
        "response": lambda answer: visitor.problems.extend(_shut_doors(answer, host)),
        "websocket": lambda opened: look(opened.url),
        "pageerror": lambda error: visitor.problems.append(str(error)),
        "console": read,
        "dialog": refuse,
    }
    for event, listener in listeners.items():
        visitor.page.on(event, listener)

    def end():
        for event, listener in listeners.items():
            visitor.page.remove_listener(event, listener)

    return end


@pytest.fixture
def visit(chromium, profile, serve):
    """Opens a page as somebody who was never there; checks at the end that it stayed local."""
    visitors = []
    endings = contextlib.ExitStack()

    def start(server, query="", own=False, **options):
        look = LOOK | options
        if own or visitors or len(look) > len(LOOK):
            context = _new_profile(chromium, **options)
            page = context.new_page()
            endings.callback(context.close)
        else:
            page = profile.pages[0] if profile.pages else profile.new_page()
            _forget(page, server.url)
            page.set_viewport_size(look.pop("viewport"))
            page.emulate_media(**look)
            endings.callback(_rest, page, server.url)
        visitor = Visitor(page, server.url)
        visitors.append(visitor)
        endings.callback(_watch(visitor))
        visitor.open(query)
        return visitor

    with endings:
        yield start
    for visitor in visitors:
        assert visitor.outside == []
        assert visitor.problems == []


def _rest(page, url):
    """Leave the shared page where no script runs, in the process that has its scripts compiled."""
    for other in page.context.pages[1:]:
        other.close()
    page.goto(url + "theme.css")
