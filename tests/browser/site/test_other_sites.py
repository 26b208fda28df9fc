"""Pages of other sites in a real Chromium: none of them runs a handler, reads a thing or frames us.

The app is at 127.0.0.1. The other sites are served by a plain server on another port, under
127.0.0.1 (same site, another origin), localhost and a name that points at 127.0.0.1 (other sites);
the last name is also tried on the app itself, as DNS rebinding does.
"""

import ipaddress
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ENDED, EVIL, free_port
from tests.load.page_client import PageClient
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
SITES = ("127.0.0.1", "localhost", EVIL)
OWNER = "e" * 32

# The ways of a page that needs nobody's leave; each ends, whatever comes of it.
FETCHES = """async ({ address, body, name }) => {
  const form = new FormData();
  form.append("files", new Blob(["x"]), "a.txt");
  const json = JSON.stringify(body);
  const ways = {
    text: () => fetch(address + "gradio_api/component_server", { method: "POST", mode: "no-cors",
      headers: { "Content-Type": "text/plain" }, body: json }),
    blob: () => fetch(address + "gradio_api/component_server", { method: "POST", mode: "no-cors",
      body: new Blob([json]) }),
    beacon: async () => navigator.sendBeacon(address + "gradio_api/component_server", json),
    json: () => fetch(address + "gradio_api/component_server", { method: "POST",
      headers: { "Content-Type": "application/json" }, body: json }),
    read: () => fetch(address).then((answer) => answer.text()),
    upload: () => fetch(address + "gradio_api/upload",
      { method: "POST", mode: "no-cors", body: form }),
    file: () => fetch(address +
     `gradio_api/sol-upload?kind=corpus&name=a.txt&owner=${"a".repeat(32)}`,
      { method: "POST", mode: "no-cors", body: new Blob(["words"]) }),
    join: () => fetch(address + "gradio_api/queue/join", { method: "POST", mode: "no-cors",
      headers: { "Content-Type": "text/plain" }, body: "{}" }),
    stream: () => new Promise((done, fail) => {
      const source = new EventSource(address + "gradio_api/queue/data?session_hash=abc");
      source.onopen = () => done("open");
      source.onerror = () => { source.close(); fail("refused"); };
    }),
    image: () => new Promise((done) => {
      const image = new Image();
      image.onload = image.onerror = done;
      image.src = address + "gradio_api/heartbeat/abc";
    }),
  };
  try { return String((await ways[name]()) ?? "sent"); } catch (error) { return "failed"; }
}"""
WAYS = ("text", "blob", "beacon", "json", "read", "upload", "file", "join", "stream", "image")


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<!doctype html><title>other</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Quiet."""


@pytest.fixture(scope="module")
def elsewhere():
    """The port of another server on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Blank)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def server(serve):
    return serve(FakeEngine())


def start_run(server):
    """The body of a call that starts a run."""
    with PageClient(server.url) as client:
        client.open()
        explore = client.components["explore"]
    request = {"owner": OWNER, "prompt": "driven by another site", "settings": {}}
    about = {"session_hash": "abc", "component_id": explore, "fn_name": "start_run"}
    return about | {"data": [request]}


def runs_of(server):
    return len(server.services.store.runs.list())


def test_our_own_page_may_do_all_this(server, page):
    """So that what follows would be seen, if it were let through."""
    body = start_run(server)
    page.goto(server.url)
    about = {"address": server.url, "body": body}
    assert page.evaluate(FETCHES, about | {"name": "json"}) == "[object Response]"
    assert "components" in page.evaluate(FETCHES, about | {"name": "read"})
    assert runs_of(server) == 1


@pytest.mark.parametrize("site", SITES)
def test_no_other_page_calls_reads_or_uploads(server, page, elsewhere, site):
    body, statuses = start_run(server), []
    page.goto(f"http://{site}:{elsewhere}/")
    page.on("response", lambda answer: statuses.append((answer.request.method, answer.status)))
    for name in WAYS:
        said = page.evaluate(FETCHES, {"address": server.url, "body": body, "name": name})
        assert "components" not in said
        assert said != "open"
    page.wait_for_timeout(300)  # a beacon waits for nobody
    assert len(statuses) >= 5  # text, blob, beacon, upload, join; Chromium tells of no others
    # Gradio answers the question whether JSON may be sent, with a no, before the gate.
    assert {status for method, status in statuses if method != "OPTIONS"} == {403}
    assert runs_of(server) == 0
    assert server.engine.calls == []


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data"])
def test_no_form_of_another_site_runs_a_handler(server, page, elsewhere, kind):
    body = start_run(server)
    page.goto(f"http://localhost:{elsewhere}/")
    # {…,"junk":"=": "} as text/plain is JSON; a multipart form is what Gradio itself would read.
    text = json.dumps(body)[:-1] + ', "junk": "'
    fields = {text: '"}'} if kind == "text/plain" else {
        name: str(value) for name, value in body.items()
    }  # fmt: skip
    with page.expect_response("**/component_server") as found:
        page.evaluate(
            """({ address, kind, fields }) => {
              const form = document.createElement("form");
              Object.assign(form, { method: "post", enctype: kind, action: address });
              for (const [name, value] of Object.entries(fields)) {
                const input = document.createElement("input");
                Object.assign(input, { name, value });
                form.append(input);
              }
              document.body.append(form);
              form.submit();
            }""",
            {"address": f"{server.url}gradio_api/component_server", "kind": kind, "fields": fields},
        )
    assert found.value.status == 403
    expect(page.locator("body")).to_contain_text("may not use this server")
    assert runs_of(server) == 0


def test_a_name_that_is_pointed_here_is_not_answered(server, page):
    port = server.url.rstrip("/").rpartition(":")[2]
    for path in ("", "config", "gradio_api/component_server"):
        answer = page.goto(f"http://{EVIL}:{port}/{path}")
        assert answer.status == 421
        assert "SOL_ALLOWED_HOSTS" in answer.text()
    address = f"http://{EVIL}:{port}/"
    body = start_run(server)
    page.evaluate(FETCHES, {"address": address, "body": body, "name": "json"})
    assert runs_of(server) == 0


def test_a_link_opens_the_page_and_a_frame_does_not(server, page, elsewhere):
    page.goto(f"http://localhost:{elsewhere}/")
    page.evaluate(
        """(address) => new Promise((done) => {
          const frame = document.createElement("iframe");
          frame.onload = done;
          frame.src = address;
          document.body.append(frame);
        })""",
        server.url,
    )
    assert page.frames[1].locator(".sol-page").count() == 0
    page.set_content(f'<a href="{server.url}?tab=history">link</a>')
    page.get_by_text("link").click()
    expect(page.get_by_role("tab", name="History")).to_be_visible()


_LISTENERS = []


def _audit(event, arguments):
    if not _LISTENERS:
        return
    address = None
    if event == "socket.connect":
        address = arguments[1][0] if isinstance(arguments[1], tuple) else None
    elif event == "socket.getaddrinfo":
        address = arguments[0]
    if address is not None and not _is_local(address):
        _LISTENERS[-1].append(f"{event} {address}")


def _is_local(address):
    name = address.decode() if isinstance(address, bytes) else str(address)
    try:
        return ipaddress.ip_address(name).is_loopback or name == "0.0.0.0"
    except ValueError:
        return name in ("localhost", "")


@pytest.fixture
def connections():
    """What this process connects to or looks up outside the machine, from now on."""
    if not getattr(sys, "_sol_audit_added", False):  # an audit hook cannot be taken off again
        sys.addaudithook(_audit)
        sys._sol_audit_added = True
    seen = []
    _LISTENERS.append(seen)
    yield seen
    _LISTENERS.remove(seen)


def test_no_request_leaves_the_machine(connections, serve, visit):
    # ``visit`` fails the test for any request of the browser to another host.
    visitor = visit(serve(FakeEngine(step_s=0.002), port=free_port()))  # started here, watched
    visitor.generate(max_new_tokens=30)
    visitor.expect_state(ENDED)
    visitor.tokens.nth(3).hover()
    expect(visitor.card).to_be_visible()
    visitor.tab("History")
    expect(visitor.page.get_by_role("listitem")).to_have_count(1)
    visitor.page.wait_for_timeout(1000)
    fonts = visitor.page.evaluate(
        "[...document.fonts].filter((one) => one.status !== 'unloaded').map((one) => one.family)"
    )
    links = visitor.page.evaluate(
        """[...document.querySelectorAll("link[href], script[src], img[src], iframe[src]")]
        .map((one) => one.href || one.src)"""
    )
    assert fonts == []
    assert [link for link in links if not link.startswith((visitor.url, "data:"))] == []
    assert connections == []
