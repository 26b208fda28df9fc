"""Exported pages on a static host: other runs by address and by file, and as text alone."""

import functools
import http.server
import json
import threading

import pytest
from playwright.sync_api import expect

from app.sharing.kinds import export
from storage import open_store
from tests.app.sharing.test_run_documents import save_run
from tests.browser.exported import offline
from tests.support.inspection_samples import save_inspection

pytestmark = pytest.mark.browser


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *given):
        pass


@pytest.fixture
def host(tmp_path):
    """A folder of exports, and its address on a static host."""
    with open_store(tmp_path / "runs.sqlite") as store:
        for name, tokens in (("one", ("A", " sea")), ("two", ("Two", " other", " tokens"))):
            run = save_run(store, tokens=tokens)
            for form in ("html", "json"):
                (tmp_path / f"{name}.{form}").write_text(export(store, "run", run, form).text)
        inspected = save_inspection(store, ("In", " spected"))
        for form in ("html", "json"):
            text = export(store, "inspection", inspected, form).text
            (tmp_path / f"inspection.{form}").write_text(text)
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path
        server.shutdown()


def test_one_page_beside_many_runs(host, chromium):
    address, _ = host
    page = chromium.new_context().new_page()
    tokens = page.locator(".sol-lines .sol-token")
    page.goto(f"{address}/one.html")
    expect(tokens.first).to_have_text("A")
    page.goto(f"{address}/one.html?run=two.json")
    expect(tokens.first).to_have_text("Two")
    said = page.get_by_role("status").filter(has_text="Not opened")
    for name, words in (("none.json", "answered 404"), ("inspection.json", "sol-explorer-run")):
        page.goto(f"{address}/one.html?run={name}")
        expect(said).to_contain_text(words)
        expect(tokens.first).to_have_text("A")
    page.goto(f"{address}/inspection.html?run=inspection.json&view=text")
    expect(page.locator(".sol-lines .sol-token").first).to_have_text("In")
    expect(page.get_by_role("button", name="Open another run")).to_be_hidden()
    expect(page.locator(".sol-plot").first).to_be_hidden()
    page.context.close()


def test_a_file_opens_without_a_network(host, chromium):
    _, folder = host
    page, problems = offline(chromium, folder / "one.html")
    tokens = page.locator(".sol-lines .sol-token")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open another run").click()
    chooser.value.set_files(folder / "two.json")
    expect(tokens.first).to_have_text("Two")
    tokens.nth(2).hover()
    expect(page.locator(".sol-card")).to_contain_text("token 3")
    dropped = """text => {
        const data = new DataTransfer();
        data.items.add(new File([text], "run.json"));
        const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
        document.querySelector("main").dispatchEvent(drop);
    }"""
    document = json.loads((folder / "two.json").read_text())
    document["events"] = document["events"][:1]
    page.evaluate(dropped, json.dumps(document))
    expect(tokens).to_have_count(1)
    document["events"][0].pop("action")
    page.evaluate(dropped, json.dumps(document))
    expect(page.get_by_role("status").filter(has_text="Not opened")).to_be_visible()
    expect(tokens).to_have_count(1)
    assert problems == []
    page.context.close()
