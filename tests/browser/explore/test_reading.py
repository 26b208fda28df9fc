"""What a step read, in the text: what is drawn while tokens are passed."""

from dataclasses import replace

import pytest

from sol_core.actions import Budget
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser


class Sparse(FakeEngine):
    """Steps that read less than half of the pages."""

    def __call__(self, model, prompt, config, stop):
        schedule = replace(config.schedule, budget=Budget(0.4, 0.7, 10))
        return super().__call__(model, prompt, replace(config, schedule=schedule), stop)


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


def test_a_frame_draws_one_part_of_a_step_and_a_folded_prompt_only_what_it_read(serve, visit):
    pages = [f"page {number} of a long prompt " for number in range(40)]
    visitor = visit(serve(Sparse(pages=tuple(pages))))
    visitor.answer("The keeper", max_new_tokens=40)
    assert visitor.page.evaluate(MOST_PARTS) == 1
    shown = visitor.page.locator(".sol-stage > .sol-reading .sol-page")
    assert 0 < shown.count() == shown.and_(visitor.page.locator("[data-read]")).count() < 12
    visitor.page.get_by_role("button", name="Whole prompt").click()
    assert shown.all_text_contents() == pages
