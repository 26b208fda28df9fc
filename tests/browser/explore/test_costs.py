"""Measured time by part beside computed savings, and the estimates for other machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from app.pages.explore.form import DEFAULT_FORM
from sol_core.actions import Action, Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import event_to_dict
from sol_core.speed.cost_estimates import estimated_steps, shape_of
from tests.app.waiting import wait_until
from tests.browser.conftest import Server, Visitor
from tests.support.fake_engine import FAKE_MODEL, FakeEngine, make_token

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


def estimate(visitor: Visitor) -> Locator:
    return visitor.page.locator(".sol-estimate")


@looks
def test_the_measured_parts_add_up_beside_what_was_computed(
    serve: Serve, visit: Visit, viewport: dict[str, int], scheme: str
) -> None:
    server = serve(FakeEngine(step_s=0.02))
    visitor = finished(lambda _: server, visit, viewport=viewport, color_scheme=scheme)
    visitor.show_numbers()
    parts = visitor.page.locator(".sol-parts")
    expect(parts).to_contain_text("Measured per token: 20.0 ms, with 1 more row in each step")
    expect(parts).to_contain_text("Computed: bytes saved against dense")
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
    expect(visitor.page.locator(".sol-parts")).to_contain_text("not kept when this run was saved")
    visitor.tokens.nth(1).hover()
    expect(visitor.card).to_contain_text("Measured: 20 ms")
    expect(visitor.card).not_to_contain_text("attention 7")


@looks
def test_the_estimates_are_the_engines_and_follow_context_and_run(
    serve: Serve, visit: Visit, viewport: dict[str, int], scheme: str
) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.005)), viewport=viewport, color_scheme=scheme)
    table = estimate(visitor).locator("table")
    expect(table).to_be_hidden()
    if viewport is NARROW:  # the recording has a phone's screen until somebody runs it
        visitor.page.get_by_role("button", name="Run it here").click()
        visitor.expect_state("Finished")
    visitor.page.get_by_text("What would this cost on …").click()
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(estimate(visitor)).to_contain_text("Estimate, memory- and compute-bound floor (")
    if viewport is not NARROW:
        expect(estimate(visitor)).to_contain_text("Generate something")
        assert "→" not in (table.locator("tbody").text_content() or "")
    visitor.show_axes()
    for label, name in (
        ("Attention kept", "keep"),
        ("Channels kept", "channels"),
        ("Bits", "bits"),
    ):
        field = visitor.page.get_by_label(f"{label}, value").first
        field.fill(str(DEFAULT_FORM[name]))
    visitor.generate("The lighthouse keeper", max_new_tokens=24)
    visitor.expect_state("Finished")
    expect(estimate(visitor)).to_contain_text("This run's mean spend: attention ")
    for context in (2048, 512):
        visitor.page.get_by_label("Context", exact=True).select_option(str(context))
        expect(table.locator("tbody")).to_have_text(expected(context))
    visitor.page.get_by_label("Context", exact=True).select_option("131072")
    expect(table.locator("tr").nth(1)).to_contain_text("more than its context")
    expect(table.locator("tr").nth(3)).to_contain_text("saved")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    spills = table.locator("td, th").evaluate_all(
        "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    )
    assert spills == 0


def expected(context: int) -> str:
    """The table's text after a run of 24 tokens at the form's first budget."""
    budget = Budget(DEFAULT_FORM["keep"] / 100, DEFAULT_FORM["channels"] / 100, 10)
    config = GenerationConfig(ScheduleConfig("static", budget))
    actions = [make_token(at, "", config).action for at in range(24)]
    keep, channels = (
        round(sum(action.as_tuple()[axis] for action in actions) / 24, 3) for axis in (0, 1)
    )
    loaded = shape_of(FAKE_MODEL.name, FAKE_MODEL.spec)
    text = ""
    for row in estimated_steps(loaded, 2048, Action(keep, channels), context, config.grid):
        text += row["model"] + ("this model" if row["is_loaded"] else "")
        for cell in row["cards"].values():
            text += f"{three(cell['dense_ms'])} → {three(cell['spend_ms'])} ms"
            text += f"{100 * cell['saved']:.1f} % saved"
    return text


def three(value: float) -> str:
    """Three significant digits, zeros at the end kept."""
    return f"{value:#.3g}"
