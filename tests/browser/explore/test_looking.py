"""Looking at a run: card, keyboard, colours, charts and tokens together, narrow and wide, dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from sol_core.actions import Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import event_to_dict
from tests.app.waiting import wait_until
from tests.browser.conftest import Server, Visitor, comes_to
from tests.support.fake_engine import FakeEngine, make_token

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]


def finished(serve: Serve, visit: Visit, tokens: int = 60, **options: Any) -> Visitor:
    visitor = visit(serve(FakeEngine(step_s=0.001)), **options)
    visitor.generate("The lighthouse keeper", max_new_tokens=tokens)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(tokens)
    visitor.page.mouse.move(2, 2)
    return visitor


def box(visitor: Visitor, selector: str) -> dict[str, float]:
    found: dict[str, float] = visitor.page.evaluate(
        "(selector) => document.querySelector(selector).getBoundingClientRect().toJSON()", selector
    )
    return found


def test_the_card_says_everything_about_a_token(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    expect(visitor.card).to_be_hidden()
    visitor.tokens.nth(4).hover()
    expect(visitor.card).to_be_visible()
    for words in (
        "token 5 · id 104",
        "KL to the full model",
        "Most probable here",
        "taken",
        "Measured: 1.0 ms (attention 0.35, MLP 0.35, head 0.20, policy 0.04, rest 0.06)",
        "24 cached tokens",
    ):
        expect(visitor.card).to_contain_text(words)
    assert visitor.card.locator(".sol-choice").count() >= 5
    visitor.page.mouse.move(2, 2)
    expect(visitor.card).to_be_hidden()
    other = visitor.page.locator(".sol-lines .sol-token.is-other").first
    assert "the full model would choose" in (other.get_attribute("aria-label") or "")
    other.hover()
    expect(visitor.card).to_contain_text("The full model would choose  dense (50 %)")


def test_the_card_shows_how_the_policy_weighed_every_level(serve: Serve, visit: Visit) -> None:
    """Of a run at 70 %, 85 % and 10 bits, read from the database."""
    server = serve(FakeEngine(step_s=0.001))
    config = GenerationConfig(
        ScheduleConfig("policy", Budget(0.7, 0.85, 10), policy="any"), max_new_tokens=12
    )
    run_id = server.services.runs.start("a" * 32, "The lighthouse keeper", config)
    wait_until(lambda: server.services.store.runs.get(run_id).status == "finished")
    server.services.runs.forget(run_id)
    visitor = visit(server, f"?run={run_id}", viewport={"width": 360, "height": 640})
    visitor.tokens.nth(9).focus()
    rows = visitor.card.locator(".sol-level-row")
    expect(rows).to_have_count(3)
    wanted = (("Attention", "70 %", 0.27), ("MLP", "85 %", 0.25), ("Bits", "10 bits", 0.10))
    for row, count, (axis, level, share) in zip(rows.all(), (11, 15, 12), wanted, strict=True):
        assert row.locator(".sol-levels i").count() == count
        spoken = row.get_attribute("aria-label") or ""
        assert spoken.startswith(f"{axis}: {level} taken, at {share * 100:.0f} %; "), spoken
        expect(row.locator(".is-chosen")).to_have_attribute("title", re.compile(f"^{level}"))
    # One scale for the three rows: the most probable level of all is a full bar.
    heights = visitor.card.locator(".sol-levels i").evaluate_all(
        "(bars) => bars.map((bar) => Number(bar.style.getPropertyValue('--v')))"
    )
    assert max(heights) == 1
    assert max(heights[-12:]) == pytest.approx(0.10 / 0.27, abs=0.02)
    # The card is taller than its place here; Page Down reaches what is below.
    visitor.page.keyboard.press("PageDown")
    comes_to(lambda: visitor.card.evaluate("(node) => node.scrollTop > 50"), True)


def test_tokens_are_walked_with_the_keyboard_alone(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    page, press = visitor.page, visitor.page.keyboard.press
    assert page.locator('.sol-token[tabindex="0"]').count() == 1  # one stop for all tokens

    def focused() -> int:
        return int(page.evaluate("document.activeElement.solIndex"))

    visitor.tokens.first.focus()
    for key, index in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        press(key)
        assert focused() == index
        expect(visitor.card).to_contain_text(f"token {index + 1} ·")
    press("ArrowDown")
    assert focused() > 5
    press("ArrowUp")
    assert focused() in (0, 1, 2)
    press("End")
    assert focused() == 59
    expect(visitor.tokens.nth(59)).to_be_in_viewport()
    press("Home")
    press("Escape")
    expect(visitor.card).to_be_hidden()
    assert focused() == 0
    press("Shift+ArrowRight")
    press("Shift+ArrowRight")
    expect(page.locator('.sol-token[aria-selected="true"]')).to_have_count(3)
    expect(page.locator(".sol-selection")).to_contain_text("Tokens 1–3: on average attention")
    press("Escape")
    press("Escape")
    expect(page.locator('.sol-token[aria-selected="true"]')).to_have_count(0)


def test_a_token_marks_both_charts_and_a_chart_its_token(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, tokens=400)
    for number in (1, 0):
        expect(visitor.chart(number).locator(".main-svg").first).to_be_visible()
    markers = visitor.page.locator(".sol-marker:visible")
    expect(markers).to_have_count(0)
    visitor.tokens.nth(390).hover()
    expect(markers).to_have_count(2)
    area = visitor.chart(0).locator(".sol-plot .nsewdrag").first.bounding_box()
    assert area is not None
    visitor.page.mouse.move(area["x"] + area["width"] * 0.025, area["y"] + area["height"] / 2)
    marked = visitor.page.locator(".sol-token.is-marked")
    comes_to(lambda: marked.count() == 1 and 5 <= marked.evaluate("(one) => one.solIndex") <= 15,
             True)  # fmt: skip
    # Into view within its panel, whatever part of the page is on the screen.
    panel, token = box(visitor, ".sol-scroll"), box(visitor, ".sol-token.is-marked")
    assert panel["top"] <= token["top"]
    assert token["bottom"] <= panel["bottom"]
    visitor.page.mouse.move(2, 2)
    expect(marked).to_have_count(0)


def test_dragging_over_a_chart_selects_tokens(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, tokens=100)
    page = visitor.page
    plot = visitor.chart(1).locator(".sol-plot .nsewdrag[data-subplot='xy']")
    page.wait_for_timeout(400)  # it is drawn when it comes into sight, and once more at the end
    area = plot.bounding_box()
    assert area is not None
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + area["width"] * 0.2, middle)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.4, middle + 20, steps=12)
    page.mouse.up()
    chosen = page.locator('.sol-token[aria-selected="true"]')
    expect(chosen).to_have_count(20)
    expect(page.locator(".sol-selection")).to_contain_text("Tokens 21–40: on average")
    expect(page.locator(".sol-band:visible")).to_have_count(2)
    page.get_by_role("button", name="Clear selection").click()
    expect(chosen).to_have_count(0)


def test_dark_follows_the_system_and_can_be_switched_and_kept(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, color_scheme="dark")
    page = visitor.page

    def colour(selector: str, what: str) -> str:
        found = "([one, what]) => getComputedStyle(document.querySelector(one))[what]"
        return str(page.evaluate(found, [selector, what]))

    ground = (".sol-tokens", "backgroundColor")
    grid = (".sol-plot .gridlayer path", "stroke")
    expect(visitor.chart(0).locator(".sol-plot .gridlayer path").first).to_be_attached()
    assert (colour(*ground), colour(*grid)) == ("rgb(20, 24, 30)", "rgb(42, 49, 58)")
    page.get_by_role("button", name="Switch to the light theme").click()
    assert colour(*ground) == "rgb(255, 255, 255)"
    visitor.chart(0)  # the button may have scrolled it away
    comes_to(lambda: colour(*grid), "rgb(224, 225, 220)")
    page.reload()
    expect(page.get_by_role("button", name="Switch to the dark theme")).to_be_visible()
    expect(page.locator(".sol-tokens")).to_be_attached()
    assert colour(*ground) == "rgb(255, 255, 255)"


def test_records_of_earlier_releases_open(serve: Serve, visit: Visit) -> None:
    """Without the policy's levels, times by part, pages read, dense's choice; with no surprisal."""
    server = serve()
    store = server.services.store.runs
    config = GenerationConfig(ScheduleConfig("policy", policy="any")).to_dict()
    del config["page_reads"]
    record = store.create("c" * 32, "Of before", "fake-model", "policy", config)
    events = [event_to_dict(make_token(at, " sea")) for at in range(3)]
    for event in events:
        event["side"] = [{"name": "dense", "surprisal": 0.5, "kl_to_dense": None}]
        event["surprisal"] = None
        for name in ("policy", "parts_ms", "page_reads"):
            event.pop(name, None)
    store.append_events(record.id, events)
    store.finish(record.id, "finished")
    visitor = visit(server, f"?run={record.id}")
    expect(visitor.page.locator(".sol-parts")).to_contain_text("not recorded when this run was")
    visitor.tokens.nth(1).hover()
    expect(visitor.card).to_contain_text("Most probable here")
    expect(visitor.card).not_to_contain_text("attention 7")
    expect(visitor.card.locator(".sol-level-row")).to_have_count(0)
    machine = visitor.page.locator(".sol-machine")
    expect(machine).to_contain_text("which pages were read was not recorded")
    expect(machine.locator(".sol-machine-chance")).to_have_text("– probable")
