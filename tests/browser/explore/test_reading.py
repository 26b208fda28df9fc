"""What a step read, in the text: pages of the prompt and earlier tokens light up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from app.sharing.kinds import export
from sol_core.actions import Budget
from sol_core.config import GenerationConfig
from tests.browser.axe import violations
from tests.browser.conftest import Server, Visitor, comes_to
from tests.browser.exported import offline
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
PAGES = ("The keeper lights <b>the</b> lamp ", "and counts the boats of the bay ")
TOKENS = 40
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Sparse(FakeEngine):
    """Steps that read less than half of the pages."""

    def __call__(self, model: Any, prompt: str, config: GenerationConfig, stop: Any) -> Any:
        schedule = replace(config.schedule, budget=Budget(0.4, 0.7, 10))
        return super().__call__(model, prompt, replace(config, schedule=schedule), stop)


def shares(record: dict[str, Any]) -> list[float]:
    return [DIGITS.index(digit) / 63 for digit in record["page_reads"]["by_page"]]


def mean_read(records: list[dict[str, Any]], page: int) -> float:
    """Over the steps that had this page."""
    having = [record for record in records if record["page_reads"]["pages"] > page]
    return fmean((shares(record) or [1.0] * (page + 1))[page] for record in having)


def most_read(values: list[float]) -> set[int]:
    """Those that must be lit: half of the largest and above, and the first five."""
    order = sorted(range(len(values)), key=lambda page: -values[page])
    lit = {page for page in order if values[page] >= max(values) / 2}
    return lit | {page for page in order[:5] if values[page] > 0}


def lit(tokens: Locator) -> set[int]:
    found = tokens.evaluate_all("all => all.flatMap((one, at) => one.dataset.read ? [at] : [])")
    return set(found)


def test_a_tokens_pages_light_up_and_a_pages_tokens(
    serve: Callable[..., Server], visit: Callable[..., Visitor], chromium: Browser, tmp_path: Path
) -> None:
    server = serve(Sparse(pages=PAGES))
    visitor = visit(server, viewport={"width": 1280, "height": 900})
    visitor.answer("The keeper", max_new_tokens=TOKENS)
    page, run_id = visitor.page, str(visitor.run_id())
    records = server.services.store.runs.events(run_id)
    reading = page.locator(".sol-tokens > .sol-reading")
    expect(reading.locator(".sol-page")).to_have_count(len(PAGES))
    assert "".join(reading.locator(".sol-page").all_text_contents()) == "".join(PAGES)

    second = mean_read(records, 1)
    more = [
        n for n in range(20, TOKENS) if any(share > second for share in shares(records[n])[1:2])
    ]
    at = more[0]  # its step read the prompt's second page more than others did
    values = shares(records[at])
    usual = [mean_read(records, page) for page in range(len(values))]
    above = [max(value - mean, 0.0) for value, mean in zip(values, usual, strict=True)]
    wanted = [0.0, *above[1:-2], 0.0, 0.0]  # without the first and the newest
    visitor.tokens.nth(at).hover()
    expect(reading.locator(".sol-reading-caption")).to_contain_text("most of all")
    before = {token for token in range(at) if (16 + token) // 8 in most_read(wanted)}
    assert lit(visitor.tokens) == before
    reading.get_by_label("All that it read").check()
    visitor.tokens.nth(at).hover()
    comes_to(lambda: lit(reading.locator(".sol-page")), most_read(values) & {0, 1})

    reading.locator(".sol-page").nth(1).hover()
    of_page = [(shares(record) or [1.0] * 2)[1] for record in records]
    expect(reading.locator(".sol-reading-caption")).to_contain_text("Page 2 was read most for")
    assert lit(visitor.tokens) == most_read(of_page)

    reading.get_by_text("Map of the whole run").click()
    canvas = reading.locator("canvas")
    expect(canvas).to_be_visible()
    size = canvas.evaluate("canvas => [canvas.width, canvas.height]")
    assert size == [records[-1]["page_reads"]["pages"], TOKENS]
    for form, starts in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        reading.get_by_label("Reading map: save as an image").click()
        with page.expect_download() as saved:
            page.locator(".sol-menu-list:visible").get_by_role("button", name=form).click()
        assert Path(saved.value.path()).read_bytes().startswith(starts)
    assert not list(violations(page))
    assert visitor.problems == []

    file = tmp_path / "run.html"
    file.write_text(export(server.services.store, "run", run_id, "html").text, encoding="utf-8")
    exported, problems = offline(chromium, file)
    exported.locator(".sol-lines .sol-token").nth(at).hover()
    caption = exported.locator(".sol-tokens > .sol-reading .sol-reading-caption")
    expect(caption).to_contain_text("most of all")
    assert problems == []


# The most parts of the page that changed in one frame while tokens were pointed at.
MOST_PARTS = """async () => {
  const [frames, tokens] = [new Map(), [...document.querySelectorAll(".sol-token")]];
  const parts = [".sol-card", ".sol-machine-caption", ".sol-reading-caption"];
  new MutationObserver((all) => all.forEach(({ target }) => {
    const at = document.timeline.currentTime;
    const place = target.closest ? target : target.parentElement;
    frames.set(at, (frames.get(at) ?? new Set()).add(parts.find((part) => place.closest(part))));
  })).observe(document.body, { childList: true, characterData: true, subtree: true });
  for (const token of tokens.filter((one) => one.offsetParent)) {
    token.dispatchEvent(new PointerEvent("pointermove", { bubbles: true }));
    await new Promise(requestAnimationFrame);
  }
  return Math.max(...[...frames.values()].map((some) => [...some].filter(Boolean).length));
}"""


def test_a_frame_draws_one_part_of_a_step_and_a_folded_prompt_only_what_it_read(
    serve: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    pages = [f"page {number} of a long prompt " for number in range(40)]
    visitor = visit(serve(Sparse(pages=tuple(pages))))
    visitor.answer("The keeper", max_new_tokens=TOKENS)
    assert visitor.page.evaluate(MOST_PARTS) == 1
    shown = visitor.page.locator(".sol-tokens > .sol-reading .sol-page")
    assert 0 < shown.count() == len(lit(shown)) < 12
    visitor.page.get_by_role("button", name="Show the whole prompt").click()
    assert shown.all_text_contents() == pages
