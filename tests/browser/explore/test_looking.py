"""Looking at a run: card, keyboard, colours, charts and tokens together, narrow and wide, dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from app.runs import saver
from sol_core.actions import Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import event_to_dict
from tests.app.waiting import wait_until
from tests.browser.conftest import Server, Visitor, comes_to
from tests.support.fake_engine import FakeEngine, make_token

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
NARROW = {"width": 360, "height": 640}


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
        "Attention",
        "MLP",
        "Bits",
        "Surprisal",
        "Entropy",
        "KL to the full model",
        "In the full model",
        "Most probable here",
        "taken",
        "Measured: 1.0 ms",
        "Computed: saved",
        "24 cached tokens",
    ):
        expect(visitor.card).to_contain_text(words)
    assert visitor.card.locator(".sol-choice").count() >= 5
    visitor.page.mouse.move(2, 2)
    expect(visitor.card).to_be_hidden()


def test_the_card_shows_how_the_policy_weighed_every_level(serve: Serve, visit: Visit) -> None:
    visitor = policy_run(serve, visit, viewport=NARROW)
    visitor.tokens.nth(9).focus()
    rows = visitor.card.locator(".sol-level-row")
    expect(rows).to_have_count(3)
    counts = [rows.nth(at).locator(".sol-levels i").count() for at in range(3)]
    assert counts == [11, 15, 12]
    wanted = (("Attention", "70 %", 0.27), ("MLP", "85 %", 0.25), ("Bits", "10 bits", 0.10))
    for row, (axis, level, share) in zip(rows.all(), wanted, strict=True):
        spoken = row.get_attribute("aria-label") or ""
        assert spoken.startswith(f"{axis}: {level} taken, at {share * 100:.0f} %; "), spoken
        expect(row).to_contain_text(level)
        chosen = row.locator(".is-chosen")
        expect(chosen).to_have_count(1)
        assert (chosen.get_attribute("title") or "").startswith(level)
    # One scale for the three rows: the most probable level of all is a full bar.
    heights = visitor.card.locator(".sol-levels i").evaluate_all(
        "(bars) => bars.map((bar) => Number(bar.style.getPropertyValue('--v')))"
    )
    assert max(heights) == 1
    assert max(heights[-12:]) == pytest.approx(0.10 / 0.27, abs=0.02)
    card = visitor.card
    spills = card.locator(".sol-value").evaluate_all(
        "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    )
    assert spills == 0
    # The card is taller than its place here; Page Down reaches what is below.
    visitor.page.keyboard.press("PageDown")
    comes_to(lambda: card.evaluate("(node) => node.scrollTop > 50"), True)


def policy_run(serve: Serve, visit: Visit, **options: Any) -> Visitor:
    """A finished run under a policy at 70 %, 85 % and 10 bits, opened by its address."""
    server = serve(FakeEngine(step_s=0.001))
    config = GenerationConfig(
        ScheduleConfig("policy", Budget(0.7, 0.85, 10), policy="any"), max_new_tokens=12
    )
    run_id = server.services.runs.start("a" * 32, "The lighthouse keeper", config)
    wait_until(lambda: server.services.store.runs.get(run_id).status == "finished")
    server.services.runs.forget(run_id)  # from here on it is read from the database
    visitor = visit(server, f"?run={run_id}", **options)
    expect(visitor.tokens).to_have_count(12)
    return visitor


def test_a_saved_run_shows_the_policy_and_one_without_it_still_opens(
    serve: Serve, visit: Visit
) -> None:
    server = serve()
    store = server.services.store.runs
    config = GenerationConfig(ScheduleConfig("policy", policy="any")).to_dict()
    record = store.create("c" * 32, "Of before", "fake-model", "policy", config)
    events = [event_to_dict(make_token(at, " sea", GenerationConfig())) for at in range(3)]
    for event in events:
        del event["policy"]  # as runs were saved before it was kept
    store.append_events(record.id, events)
    store.finish(record.id, "finished")
    visitor = visit(server, f"?run={record.id}")
    visitor.tokens.nth(1).hover()
    expect(visitor.card).to_contain_text("Most probable here")
    expect(visitor.card.locator(".sol-level-row")).to_have_count(0)


@pytest.mark.parametrize(
    "viewport", [NARROW, {"width": 1280, "height": 900}, {"width": 3840, "height": 2000}], ids=str
)
def test_the_card_covers_no_part_of_its_token_and_stays_in_the_window(
    serve: Serve, visit: Visit, viewport: dict[str, int]
) -> None:
    visitor = finished(serve, visit, viewport=viewport)
    visitor.page.locator(".sol-tokens").scroll_into_view_if_needed()
    for index in (0, 9, 30, 59):
        token = visitor.tokens.nth(index)
        token.focus()
        token.scroll_into_view_if_needed()
        expect(visitor.card).to_be_visible()
        visitor.page.wait_for_timeout(60)
        card = box(visitor, ".sol-card")
        rects = token.evaluate("(node) => [...node.getClientRects()].map((one) => one.toJSON())")
        assert card["left"] >= 0
        assert card["top"] >= 0
        assert card["right"] <= viewport["width"]
        assert card["bottom"] <= viewport["height"]
        for rect in rects:
            apart = (
                card["bottom"] <= rect["top"]
                or card["top"] >= rect["bottom"]
                or card["right"] <= rect["left"]
                or card["left"] >= rect["right"]
            )
            assert apart, (index, card, rect)


def test_tokens_are_walked_with_the_keyboard_alone(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    page = visitor.page
    # One stop in the tab order for all tokens.
    assert page.locator('.sol-token[tabindex="0"]').count() == 1
    page.get_by_role("radio", name="Attention").focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('sol-token')"):
            break

    def focused() -> int:
        index: int = page.evaluate("document.activeElement.solIndex")
        return index

    assert focused() == 0
    expect(visitor.card).to_contain_text("token 1 ·")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert focused() == 2
    expect(visitor.card).to_contain_text("token 3 ·")
    page.keyboard.press("ArrowLeft")
    assert focused() == 1
    page.keyboard.press("ArrowDown")
    below = focused()
    assert below > 5
    page.keyboard.press("ArrowUp")
    assert focused() in (0, 1, 2)
    page.keyboard.press("End")
    assert focused() == 59
    expect(visitor.tokens.nth(59)).to_be_in_viewport()
    page.keyboard.press("Home")
    assert focused() == 0
    page.keyboard.press("Escape")
    expect(visitor.card).to_be_hidden()
    assert focused() == 0
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator('.sol-token[aria-selected="true"]')).to_have_count(3)
    expect(page.locator(".sol-selection")).to_contain_text("Tokens 1–3: on average attention")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator('.sol-token[aria-selected="true"]')).to_have_count(0)


def test_a_whole_generation_by_keyboard(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.2)))
    visitor.prompt.focus()
    visitor.page.keyboard.press("Control+Enter")
    visitor.expect_state("Generating")
    for _ in range(12):
        visitor.page.keyboard.press("Tab")
        if visitor.page.evaluate("document.activeElement.textContent") == "Stop":
            break
    visitor.page.keyboard.press("Enter")
    visitor.expect_state("Stopped")


def test_the_colour_axis_changes_without_running_again(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    run = visitor.run_id()
    posted: list[str] = []
    visitor.page.on("request", lambda request: posted.append(request.post_data or ""))

    def bins() -> list[str]:
        found: list[str] = visitor.page.evaluate(
            "[...document.querySelectorAll('.sol-lines .sol-token')].map((one) => one.dataset.bin)"
        )
        return found

    visitor.page.get_by_role("radio", name="Attention").check(force=True)
    before = bins()
    scale = visitor.page.locator(".sol-legend .sol-scale")
    expect(scale).to_have_text("5 %100 %")
    visitor.page.get_by_role("radio", name="Surprisal").check(force=True)
    expect(scale).to_contain_text("6 nats")
    assert bins() != before
    visitor.page.get_by_role("radio", name="Bits").check(force=True)
    expect(scale).to_contain_text("16")
    visitor.page.get_by_role("radio", name="Attention").check(force=True)
    assert bins() == before
    assert visitor.run_id() == run
    # The page may ask other things meanwhile, such as which policies there are.
    assert [call for call in posted if "start_run" in call or "poll_run" in call] == []


def test_tokens_that_dense_would_not_choose_are_marked_and_told(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    others = visitor.page.locator(".sol-lines .sol-token.is-other")
    indices = others.evaluate_all("(all) => all.map((one) => one.solIndex)")
    assert indices == list(range(3, 60, 7))  # as the stand-in engine has it
    expect(visitor.page.locator(".sol-sentence")).to_contain_text("at 9 of 60 steps")
    assert "the full model would choose" in (others.first.get_attribute("aria-label") or "")
    others.first.hover()
    expect(visitor.card).to_contain_text("The full model would choose  dense (50 %)")
    visitor.tokens.nth(4).hover()
    expect(visitor.card).not_to_contain_text("The full model would choose")


def test_a_token_marks_both_charts(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    for number in (0, 1):
        expect(visitor.chart(number).locator(".main-svg").first).to_be_visible()
    markers = visitor.page.locator(".sol-marker:visible")
    expect(markers).to_have_count(0)
    visitor.tokens.nth(10).hover()
    expect(markers).to_have_count(2)
    visitor.page.mouse.move(2, 2)
    expect(markers).to_have_count(0)


def test_a_chart_marks_its_token_and_brings_it_into_view(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, tokens=400)
    plot = visitor.chart(0).locator(".sol-plot .nsewdrag").first
    area = plot.bounding_box()
    assert area is not None
    expect(visitor.tokens.nth(10)).not_to_be_in_viewport()
    visitor.page.mouse.move(area["x"] + area["width"] * 0.025, area["y"] + area["height"] / 2)
    expect(visitor.page.locator(".sol-token.is-marked")).to_have_count(1)
    index = visitor.page.evaluate("document.querySelector('.sol-token.is-marked').solIndex")
    assert 5 <= index <= 15
    # Into view within its panel, whatever part of the page is on the screen.
    panel, token = box(visitor, ".sol-scroll"), box(visitor, ".sol-token.is-marked")
    assert panel["top"] <= token["top"]
    assert token["bottom"] <= panel["bottom"]
    visitor.page.mouse.move(2, 2)
    expect(visitor.page.locator(".sol-token.is-marked")).to_have_count(0)


@pytest.mark.parametrize("chart", [0, 1], ids=["spend", "quality"])
def test_dragging_over_a_chart_selects_tokens(serve: Serve, visit: Visit, chart: int) -> None:
    visitor = finished(serve, visit, tokens=100)
    page = visitor.page
    plot = visitor.chart(chart).locator(".sol-plot .nsewdrag[data-subplot='xy']")
    page.wait_for_timeout(400)  # it is drawn when it comes into sight, and once more at the end
    area = plot.bounding_box()
    assert area is not None
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + area["width"] * 0.2, middle)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.3, middle + 10, steps=6)
    page.mouse.move(area["x"] + area["width"] * 0.4, middle + 20, steps=6)
    page.mouse.up()
    chosen = page.locator('.sol-token[aria-selected="true"]')
    expect(chosen).to_have_count(20)
    expect(page.locator(".sol-selection")).to_contain_text("Tokens 21–40: on average")
    expect(page.locator(".sol-band:visible")).to_have_count(2)
    expect(page.locator(".sol-plot .selectionlayer path")).to_have_count(0)
    page.get_by_role("button", name="Clear selection").click()
    expect(chosen).to_have_count(0)
    expect(page.locator(".sol-band:visible")).to_have_count(0)


def test_lines_of_a_chart_can_be_hidden(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    lines = visitor.chart(0).locator(".scatterlayer .trace")
    before = 9
    expect(lines).to_have_count(before)
    key = visitor.page.get_by_role("button", name="Each step")
    key.click()
    expect(key).to_have_attribute("aria-pressed", "false")
    expect(lines).to_have_count(before - 3)
    key.click()
    expect(lines).to_have_count(before)


def test_nothing_overflows_sideways(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, viewport={"width": 360, "height": 900})
    for tab in ("Explore", "Policies", "History"):
        visitor.tab(tab)
        assert visitor.overflows(360, 600, 899, 1024, 1440, 3840) == [], tab


def test_streaming_moves_nothing(
    serve: Serve, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sentence of a late save takes a line of its own; a busy machine is not what is tested.
    monkeypatch.setattr(saver, "LATE_S", 60.0)
    visitor = visit(serve(FakeEngine(step_s=0.005)))
    visitor.set_advanced("Max new tokens", "300")
    visitor.page.get_by_role("button", name="Generate").scroll_into_view_if_needed()
    names = (".sol-status", ".sol-machine", ".sol-tokens", ".sol-charts", ".sol-controls")
    visitor.generate()
    # With the run comes its picture, in place of the recording.
    expect(visitor.page.get_by_role("region", name="The machine")).to_be_visible()
    before = [box(visitor, name) for name in names]
    for _ in range(8):
        visitor.page.wait_for_timeout(150)
        assert [box(visitor, name) for name in names] == before
    visitor.expect_state("Finished")
    assert [box(visitor, name) for name in names] == before


def test_dark_follows_the_system_and_can_be_switched_and_kept(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, color_scheme="dark")
    page = visitor.page

    def ground() -> str:
        colour: str = page.evaluate(
            "getComputedStyle(document.querySelector('.sol-tokens')).backgroundColor"
        )
        return colour

    def grid() -> str:
        colour: str = page.evaluate(
            "getComputedStyle(document.querySelector('.sol-plot .gridlayer path')).stroke"
        )
        return colour

    expect(visitor.chart(0).locator(".sol-plot .gridlayer path").first).to_be_attached()
    assert ground() == "rgb(20, 24, 30)"
    assert grid() == "rgb(42, 49, 58)"
    page.get_by_role("button", name="Switch to the light theme").click()
    assert ground() == "rgb(255, 255, 255)"
    visitor.chart(0)  # the button may have scrolled it away
    comes_to(grid, "rgb(224, 225, 220)")
    page.reload()
    expect(page.get_by_role("button", name="Switch to the dark theme")).to_be_visible()
    expect(page.locator(".sol-tokens")).to_be_attached()
    assert ground() == "rgb(255, 255, 255)"


def test_reduced_motion_stops_every_animation(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.02)), reduced_motion="reduce")
    visitor.generate(max_new_tokens=60)
    expect(visitor.tokens.nth(10)).to_be_visible()
    running = visitor.page.evaluate(
        "document.getAnimations().filter((one) => one.effect.target.closest('.sol-explore')).length"
    )
    assert running == 0


def test_every_control_has_a_name_and_ids_are_unique(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    visitor.page.get_by_text("Advanced", exact=True).click()
    for tab in ("Policies", "History", "Explore"):
        visitor.tab(tab)
    visitor.expect_names_and_single_ids(".sol-page")
