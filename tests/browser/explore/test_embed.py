"""The page in a frame (?embed=1): tokens, a sentence and the legend; who may show it."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.recordings.recording import shipped_recording
from app.sharing import export
from app.sharing.demo_folder import write_demo
from tests.browser.axe import violations
from tests.browser.conftest import Server, Visitor, free_port
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
HOSTILE = (" <img src=x onerror=window.bad=1>", " ${7*7}", " \u202esea", " so")
# A word that is explained is part of the sentence.
CONTROLS = ":is(button:not(.sol-term), input, select, textarea, a, summary):visible"


def _expect_text_alone(page: Page) -> None:
    expect(page.locator(".sol-lines .sol-token").first).to_be_visible()
    expect(page.locator(".sol-sentence")).to_contain_text("of the bytes that dense reads")
    expect(page.locator(".sol-legend .sol-scale")).to_be_visible()
    expect(page.locator(CONTROLS)).to_have_count(0)
    expect(page.get_by_role("tab").locator("visible=true")).to_have_count(0)
    assert list(violations(page)) == []
    for width in (320, 760):
        page.set_viewport_size({"width": width, "height": 500})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    tokens = page.locator(".sol-lines .sol-token")
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".sol-lens:visible")).to_have_count(0)
    assert page.evaluate("window.bad") is None


def test_a_saved_run_in_a_frame_and_its_code(serve: Serve, visit: Visit) -> None:
    server = serve(FakeEngine(HOSTILE, step_s=0.001))
    visitor = visit(server)
    visitor.generate('"><script>window.bad=1</script>', max_new_tokens=12)
    visitor.expect_state("Finished")
    visitor.page.get_by_role("button", name="Share this run").click()
    visitor.page.get_by_role("button", name="Copy embed code").click()
    expect(visitor.page.get_by_text("The frame's code is copied.")).to_be_visible()
    code = visitor.page.evaluate("navigator.clipboard.readText()")
    assert code.startswith("<iframe src=")
    assert code.count("<") == 2  # the frame's own, whatever the prompt holds
    address = re.search(r'src="([^"]+)"', code)
    assert address is not None
    framed = html.unescape(address[1])
    assert "embed=1" in framed
    visitor.page.goto(framed)
    _expect_text_alone(visitor.page)


def test_the_recording_stands_in_a_frame_without_a_run(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve())
    visitor.page.goto(f"{visitor.url}?embed=1&tab=history")
    expect(visitor.page.locator(".sol-recording-said")).to_be_visible()
    expect(visitor.page.locator(CONTROLS)).to_have_count(1)  # the dial
    expect(visitor.page.get_by_role("tab").locator("visible=true")).to_have_count(0)


def test_exported_files_are_framed_too(
    serve: Serve, visit: Visit, chromium: Browser, tmp_path: Path
) -> None:
    server = serve(FakeEngine(HOSTILE, step_s=0.001))
    visitor = visit(server)
    visitor.generate("The sea", max_new_tokens=12)
    visitor.expect_state("Finished")
    file = tmp_path / "run.html"
    file.write_text(export(server.services.store, "run", str(visitor.run_id()), "html").text)
    alone = chromium.new_page()
    alone.goto(f"{file.as_uri()}?embed=1")
    _expect_text_alone(alone)
    index, _ = write_demo(tmp_path / "demo", shipped_recording())
    alone.goto(f"{index.as_uri()}?embed=1")
    expect(alone.locator(".sol-recording-text").first).to_be_visible()
    expect(alone.get_by_role("slider")).to_be_visible()
    assert list(violations(alone)) == []
    alone.close()


class _Framing(BaseHTTPRequestHandler):
    """A page of another site with what its path names in a frame."""

    def do_GET(self) -> None:
        body = (
            f'<!doctype html><title>other</title><iframe src="{self.path[1:]}"></iframe>'.encode()
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Framing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_site_that_the_owner_names_may_frame_the_embedded_page_alone(
    serve: Serve, chromium: Browser, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOL_EMBED_SITES", site)
    server = serve(port=free_port())
    page = chromium.new_page()
    frame = page.frame_locator("iframe")
    page.goto(f"{site}/{server.url}?embed=1")
    expect(frame.locator(".sol-recording-said")).to_be_visible()
    for query in ("", "?embed=0", "?embed=1&embed=1", "?tab=train"):
        page.goto(f"{site}/{server.url}{query}")
        page.wait_for_timeout(700)
        assert frame.locator(".sol-page").count() == 0
    page.close()
