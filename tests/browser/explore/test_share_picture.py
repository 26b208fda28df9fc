"""The picture of a run to share: size, colours, words, and text that means harm."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, Visitor
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
HOSTILE = (" <img src=x onerror=window.bad=1>", " ${7*7}", "\n", " \u202esea", "\ud800", " so")


def picture(visitor: Visitor) -> bytes:
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("button", name="Picture").click()
    assert download.value.suggested_filename == f"run-{visitor.run_id()}.png"
    return Path(download.value.path()).read_bytes()


def colours(page: Page, data: bytes) -> dict[str, int]:
    """How many pixels of each colour there are, those of fewer than 300 left out."""
    found: dict[str, int] = page.evaluate(
        """async (data) => {
          const image = new Image();
          image.src = `data:image/png;base64,${data}`;
          await image.decode();
          const canvas = document.createElement('canvas');
          [canvas.width, canvas.height] = [image.width, image.height];
          const brush = canvas.getContext('2d');
          brush.drawImage(image, 0, 0);
          const pixels = brush.getImageData(0, 0, image.width, image.height).data;
          const counts = {};
          for (let at = 0; at < pixels.length; at += 4) {
            const key = `rgb(${pixels[at]}, ${pixels[at + 1]}, ${pixels[at + 2]})`;
            counts[key] = (counts[key] ?? 0) + 1;
          }
          return Object.fromEntries(Object.entries(counts).filter(([, many]) => many >= 300));
        }""",
        base64.b64encode(data).decode(),
    )
    return found


def swatches(page: Page) -> set[str]:
    """Colours that the tokens on show have."""
    return set(
        page.evaluate(
            """() => {
              const of = (bin) => getComputedStyle(
                document.querySelector(`.sol-legend .sol-swatch[data-bin="${bin}"]`),
              ).backgroundColor;
              return [...document.querySelectorAll('.sol-lines .sol-token')]
                .map((token) => of(token.dataset.bin));
            }"""
        )
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_a_card_of_the_runs_own_colours(serve: Serve, visit: Visit, scheme: Any) -> None:
    visitor = visit(serve(FakeEngine(step_s=0.001)), color_scheme=scheme)
    visitor.generate("The lighthouse keeper", max_new_tokens=60)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(60)
    by_cost = picture(visitor)
    assert by_cost.startswith(b"\x89PNG")
    assert struct.unpack(">II", by_cost[16:24]) == (1200, 630)
    found = colours(visitor.page, by_cost)
    assert swatches(visitor.page) <= found.keys()
    ground = max(found, key=lambda one: found[one])
    panel = "getComputedStyle(document.querySelector('.sol-tokens')).backgroundColor"
    assert visitor.page.evaluate(panel) == ground
    visitor.page.get_by_role("radio", name="Surprisal").check(force=True)
    by_surprisal = picture(visitor)
    assert by_surprisal != by_cost
    assert swatches(visitor.page) <= colours(visitor.page, by_surprisal).keys()


def test_long_and_hostile_texts_are_drawn_too(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(HOSTILE, step_s=0.0001)))
    visitor.generate("</script><b>${7*7} " * 60, max_new_tokens=600)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(600)
    data = picture(visitor)
    assert struct.unpack(">II", data[16:24]) == (1200, 630)
    assert len(data) > 20_000
    assert visitor.page.evaluate("window.bad") is None
