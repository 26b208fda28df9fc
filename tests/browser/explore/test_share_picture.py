"""The picture of a run to share: size, colours, words, and text that means harm."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, Visitor
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
HOSTILE = (" <img src=x onerror=window.bad=1>", " ${7*7}", "\n", " \u202esea", "\ud800", " so")


def swatches(page: Page) -> set[tuple[int, ...]]:
    """Colours that the tokens on show have."""
    found: list[str] = page.evaluate(
        """[...document.querySelectorAll('.sol-lines .sol-token')].map((token) => getComputedStyle(
          document.querySelector(`.sol-legend .sol-swatch[data-bin="${token.dataset.bin}"]`),
        ).backgroundColor)"""
    )
    return {tuple(map(int, re.findall(r"\d+", one))) for one in found}


def test_it_is_a_card_of_the_runs_own_colours(serve: Serve, visit: Visit) -> None:
    """With long and hostile texts, too."""
    visitor = visit(serve(FakeEngine(HOSTILE, step_s=0.0001)))
    visitor.generate("</script><b>${7*7} " * 60, max_new_tokens=600)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(600)
    seen = []
    for colour in ("Attention", "Surprisal"):
        visitor.page.get_by_role("radio", name=colour).check(force=True)
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("button", name="Picture").click()
        assert download.value.suggested_filename == f"run-{visitor.run_id()}.png"
        seen.append(Path(download.value.path()).read_bytes())
        picture = Image.open(io.BytesIO(seen[-1])).convert("RGB")
        assert picture.size == (1200, 630)
        found = {colour for count, colour in picture.getcolors(10**6) or () if count >= 300}
        assert len(found & swatches(visitor.page)) >= 2
    assert seen[0] != seen[1]
    assert visitor.page.evaluate("window.bad") is None
