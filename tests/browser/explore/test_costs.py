"""Measured time by part beside computed savings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from sol_core.config import GenerationConfig
from sol_core.events import event_to_dict
from tests.app.waiting import wait_until
from tests.browser.conftest import Server, Visitor
from tests.support.fake_engine import FakeEngine, make_token

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
NARROW = {"width": 360, "height": 740}
looks = pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", {"width": 1280, "height": 900}), ("dark", NARROW)], ids=str
)
NAMES = ("Attention", "MLP", "Head", "Policy", "Rest")
SHARES = (0.35, 0.35, 0.20, 0.04, 0.06)  # of the stand-in engine


def finished(serve: Serve, visit: Visit, **options: Any) -> Visitor:
    visitor = visit(serve(FakeEngine(step_s=0.02)), **options)
    visitor.generate("The lighthouse keeper", max_new_tokens=24)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(24)
    return visitor


@looks
def test_the_measured_parts_add_up_beside_what_was_computed(
    serve: Serve, visit: Visit, viewport: dict[str, int], scheme: str
) -> None:
    server = serve(FakeEngine(step_s=0.02))
    visitor = finished(lambda _: server, visit, viewport=viewport, color_scheme=scheme)
    visitor.show_numbers()
    parts = visitor.page.locator(".sol-parts")
    expect(parts).to_contain_text("Measured per token: 20.0 ms, with 1 more row in each step")
    expect(parts).to_contain_text("Computed: bytes saved against the full model")
    entries = parts.locator(".sol-part-time")
    assert entries.locator("dt").all_text_contents() == list(NAMES)
    texts = entries.locator("dd:nth-of-type(1)").all_text_contents()
    assert texts == ["7.00 ms", "7.00 ms", "4.00 ms", "0.80 ms", "1.20 ms"]
    notes = parts.locator(".sol-part-note").all_text_contents()
    assert [note.removeprefix("computed: ") for note in notes[2:]] == [
        "0 % saved",
        "0 % saved",
        "not counted",
    ]
    assert notes[0] == notes[1]
    runs = server.services.store.runs
    wait_until(lambda: runs.list()[0].summary is not None)
    summary = runs.list()[0].summary or {}
    kept = summary["cost"]["attention_bytes"] / summary["dense_cost"]["attention_bytes"]
    shown = float(notes[0].removeprefix("computed: ").removesuffix(" % saved"))
    assert shown == pytest.approx(100 * (1 - kept), abs=0.051)
    assert 0 < shown < 60
    widths = parts.locator("i").evaluate_all("(all) => all.map((one) => one.offsetWidth)")
    bar = parts.locator(".sol-part-bar").evaluate("(bar) => bar.clientWidth")
    for width, share in zip(widths, SHARES, strict=True):
        assert width == pytest.approx(share * bar, abs=4)
    spills = parts.locator("dd").evaluate_all(
        "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    )
    assert spills == 0
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    visitor.tokens.nth(3).focus()
    expect(visitor.card).to_contain_text(
        "Measured: 20 ms (attention 7.00, MLP 7.00, head 4.00, policy 0.80, rest 1.20)"
    )


def test_a_run_saved_without_parts_still_opens_and_says_so(serve: Serve, visit: Visit) -> None:
    server = serve()
    store = server.services.store.runs
    record = store.create(
        "c" * 32, "Of before", "fake-model", "dense", GenerationConfig().to_dict()
    )
    events = [event_to_dict(make_token(at, " sea", GenerationConfig())) for at in range(3)]
    for event in events:
        del event["parts_ms"]
    store.append_events(record.id, events)
    store.finish(record.id, "finished")
    visitor = visit(server, f"?run={record.id}")
    expect(visitor.tokens).to_have_count(3)
    expect(visitor.page.locator(".sol-parts")).to_contain_text(
        "not recorded when this run was saved"
    )
    visitor.tokens.nth(1).hover()
    expect(visitor.card).to_contain_text("Measured: 20 ms")
    expect(visitor.card).not_to_contain_text("attention 7")
