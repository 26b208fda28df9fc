"""Looking at a run: card, keyboard, colours, charts and tokens together, narrow and wide, dark."""

import pytest
from playwright.sync_api import expect

from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import event_to_dict
from tests.browser.conftest import comes_to
from tests.browser.look_samples import answered
from tests.support.fake_engine import FakeEngine, make_token

pytestmark = pytest.mark.browser


def finished(serve, visit, tokens=60, **options):
    return answered(visit(serve(FakeEngine(step_s=0.001)), **options), tokens)


def test_the_card_says_everything_about_a_token(serve, visit):
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


def test_tokens_are_walked_with_the_keyboard_alone(serve, visit):
    visitor = finished(serve, visit)
    page, press = visitor.page, visitor.page.keyboard.press
    assert page.locator('.sol-token[tabindex="0"]').count() == 1  # one stop for all tokens

    def focused():
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


def test_dark_follows_the_system_and_can_be_switched_and_kept(serve, visit):
    visitor = finished(serve, visit, color_scheme="dark")
    page = visitor.page

    def colour(selector, what):
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


def test_records_of_earlier_releases_open(serve, visit):
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
    expect(visitor.page.locator(".sol-tokens > .sol-reading")).to_be_hidden()
    expect(visitor.page.locator(".sol-lead")).to_contain_text("Of before")
    visitor.tokens.nth(1).hover()
    expect(visitor.card).to_contain_text("Most probable here")
    expect(visitor.card).not_to_contain_text("attention 7")
    expect(visitor.card.locator(".sol-level-row")).to_have_count(0)
    machine = visitor.page.locator(".sol-machine")
    expect(machine).to_contain_text("which pages were read was not recorded")
    expect(machine.locator(".sol-machine-chance")).to_have_text("– probable")
