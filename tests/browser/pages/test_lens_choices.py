"""The tokens that levels would choose, in the what-if panel, over made-up looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.axe import violations
from tests.browser.conftest import Server, Visitor
from tests.browser.look_samples import looking

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
AT = 12  # the token looked into: " the"


def looked(server: Server, visit: Visit, **options: Any) -> tuple[Visitor, Locator]:
    visitor = visit(server, **options)
    visitor.use_default_mechanisms()
    visitor.generate("The lighthouse keeper", 40)
    visitor.expect_state("Finished")
    visitor.tokens.nth(AT).click()
    panel = visitor.page.get_by_role("region", name="What if?")
    expect(panel.get_by_role("slider")).to_have_count(3)
    return visitor, panel


def lines(table: Locator) -> list[str]:
    """The rows as a screen reader says them, without what it skips and the buttons."""
    return table.locator("tbody tr").evaluate_all(
        """(rows) => rows.map((row) => {
          const copy = row.cloneNode(true);
          copy.querySelectorAll("[aria-hidden], button").forEach((part) => part.remove());
          return [...copy.children].map((cell) => cell.textContent.trim()).join(" | ");
        })"""
    )


def test_neighbouring_levels_of_one_token_are_one_row_and_others_are_marked(
    serve: Serve, visit: Visit
) -> None:
    _, panel = looked(looking(serve), visit)
    attention = panel.get_by_role("table", name="Attention")
    expect(attention).to_be_visible()
    assert lines(attention) == [
        "5 to 10 % | <b>sea, another token | 20 to 25 %",
        "20 to 30 % | town, another token | 29 to 34 %",
        "40 to 100 % | sea, taken | 38 to 65 %",
    ]
    channels = panel.get_by_role("table", name="MLP channels")
    assert [line.split(" | ")[0] for line in lines(channels)] == [
        "30 to 40 %",
        "45 to 55 %",
        "60 to 100 %",
    ]
    bits = panel.get_by_role("table", name="Bits")
    assert lines(bits) == ["5 to 16 bits | sea, taken | 70 %"]
    headings = panel.locator("h3").all_text_contents()
    assert "Attentionchanges at 20, 40 %" in headings
    assert "MLP channelschanges at 45, 60 %" in headings
    assert "Bitsthe same at every level" in headings
    for table, others in ((attention, 2), (channels, 2), (bits, 0)):
        assert table.locator("tr.is-other").count() == others
    part = panel.get_by_role("region", name="The token each level chooses")
    expect(part).to_contain_text("rows with another token are marked")
    expect(part).not_to_contain_text("The text has")


def test_the_curves_name_the_token_of_each_level(serve: Serve, visit: Visit) -> None:
    visitor, panel = looked(looking(serve), visit)
    strips = panel.locator(".sol-lens-strip")
    widths = strips.evaluate_all(
        "(all) => all.map((one) => [...one.children].map((part) => part.style.cssText))"
    )
    assert widths == [
        ["--n: 2;", "--n: 2;", "--n: 7;"],
        ["--n: 3;", "--n: 3;", "--n: 9;"],
        ["--n: 12;"],
    ]
    plot = panel.get_by_role("slider", name="Attention")
    plot.focus()
    visitor.page.keyboard.press("Home")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("^5 %: .*would choose <b>sea$"))
    readout = panel.locator(".sol-lens-readout").first
    expect(readout).to_contain_text("→")
    expect(readout).to_contain_text("<b>sea")
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.keyboard.press("ArrowRight")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("^20 %: .*would choose town$"))


def test_a_text_with_another_token_than_the_levels_choose_says_so(
    serve: Serve, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {"token_id": 902, "text": " fog", "probability": 0.6}
    monkeypatch.setattr("tests.browser.look_samples.choice_at", lambda share, token: drawn)
    _, panel = looked(looking(serve), visit)
    part = panel.get_by_role("region", name="The token each level chooses")
    expect(part).to_contain_text("so it is at every level")
    expect(part).to_contain_text("The text has")
    assert part.locator("tr.is-other").count() == 0


def test_the_joint_grid_marks_cells_of_another_token(serve: Serve, visit: Visit) -> None:
    _, panel = looked(looking(serve), visit)
    panel.locator("summary", has_text="Joint grid").click()
    cells = panel.locator(".is-plane .sol-heat")
    expect(cells).to_have_count(11 * 15)
    expect(panel.get_by_text("KL to the full model, nats; dotted: another token")).to_be_visible()
    last_row = panel.locator(".is-plane tbody tr").last.locator("td")  # the least attention
    expect(last_row.first).to_have_class(re.compile("is-other"))
    expect(last_row.first).to_have_attribute("aria-label", re.compile("would choose <b>sea$"))
    most = panel.locator(".is-plane tbody tr").first.locator("td").last
    expect(most).not_to_have_class(re.compile("is-other"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_panel_is_accessible_narrow_too(serve: Serve, visit: Visit, scheme: Any) -> None:
    visitor, _ = looked(looking(serve), visit, color_scheme=scheme, reduced_motion="reduce")
    assert list(violations(visitor.page)) == []
    assert visitor.overflows(390) == []
