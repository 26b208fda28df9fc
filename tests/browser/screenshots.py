"""Pictures of every page: light and dark, 390 and 1,920 px wide.

Run it against a page that is up, on the real model, with a finished training in its database:

    python -m tests.browser.screenshots http://127.0.0.1:7860/ FOLDER

It does what a visitor would: lets the recording play, generates, opens a token's card, inspects
and compares, guesses in a lesson; then it looks at each room.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, NAMES, Visitor

SIZES = {390: 844, 1920: 1080}
SCHEMES = ("light", "dark")
IN_DOCUMENTS = ("explore", "evaluate", "accuracy")  # light and 1,440 px wide
COLOURS = 160  # of a picture: enough for text and both scales, a third of the bytes
PATIENCE_MS = 300_000  # for the real model's answers
PROMPT = "Write a short story about a lighthouse keeper."


def take(url: str, folder: Path) -> None:
    """Write ``PAGE-SCHEME-WIDTH.png`` for every page, scheme and width, and those of documents."""
    folder.mkdir(parents=True, exist_ok=True)
    path = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        for scheme in SCHEMES:
            for size in SIZES.items():
                _take(browser, url, folder, scheme, size, PAGES)
        _take(browser, url, folder, "light", (1440, 1000), IN_DOCUMENTS)
        browser.close()


def _take(
    browser: Browser,
    url: str,
    folder: Path,
    scheme: str,
    size: tuple[int, int],
    names: Iterable[str],
) -> None:
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        has_touch=width < 600,
    )
    context.set_default_timeout(PATIENCE_MS)
    visitor = Visitor(context.new_page(), url)
    visitor.open()
    for name in names:
        PAGES[name](visitor)
        visitor.page.wait_for_timeout(1500)  # charts are drawn, nothing moves any more
        picture = Image.open(io.BytesIO(visitor.page.screenshot()))
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(folder / f"{name}-{scheme}-{width}.png", optimize=True)
    context.close()


def _opened(visitor: Visitor) -> None:
    visitor.page.goto(visitor.url)
    visitor.page.locator(".sol-recording .sol-token").last.wait_for()


def _generated(visitor: Visitor) -> None:
    visitor.unfold()
    visitor.generate(PROMPT, max_new_tokens=96)
    visitor.expect_state("Finished", timeout=PATIENCE_MS)
    token = visitor.tokens.nth(20)
    token.scroll_into_view_if_needed()
    token.focus()
    if _is_wide(visitor.page):
        visitor.page.evaluate("scrollTo(0, 0)")


def _inspected(visitor: Visitor) -> None:
    visitor.tab("Inspect")
    page = visitor.page
    page.get_by_role("button", name="A story", exact=True).locator("visible=true").click()
    page.get_by_role("button", name="Inspect", exact=True).locator("visible=true").click()
    _finished(page, ".sol-inspect")
    _show(page, ".sol-inspect .sol-tokens")


def _compared(visitor: Visitor) -> None:
    visitor.tab("Explore")
    page = visitor.page
    page.get_by_role("button", name="Compare with …").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    states = page.locator(".sol-pair-head .sol-state:visible")
    expect(states).to_have_text(["Finished", "Finished"], timeout=PATIENCE_MS)
    _show(page, ".sol-pair-head")


def _trained(visitor: Visitor) -> None:
    visitor.tab("Train")
    page = visitor.page
    page.locator(".sol-train .sol-jobs").scroll_into_view_if_needed()  # it is read once it is seen
    finished = page.locator(".sol-train .sol-history-row").filter(has_text="Finished")
    finished.filter(has_text="Training").first.locator("a").click()
    expect(page.locator(".sol-train .sol-status .sol-state").first).to_have_text("Finished")
    _show(page, ".sol-train .sol-status")


def _learnt(visitor: Visitor) -> None:
    visitor.tab("Learn")
    page = visitor.page
    page.get_by_text("Attention pages", exact=True).first.click()
    page.locator(".sol-learn label:visible:has(input[type=radio])").first.click()
    page.get_by_role("button", name="Commit and measure").locator("visible=true").click()
    expect(page.locator(".sol-learn canvas:visible").first).to_be_visible(timeout=PATIENCE_MS)
    _show(page, ".sol-learn canvas:visible")


def _at(tab: str, shown: str = "") -> Callable[[Visitor], None]:
    def prepare(visitor: Visitor) -> None:
        visitor.tab(tab)
        if shown:
            _show(visitor.page, shown)

    return prepare


def _finished(page: Page, within: str) -> None:
    state = page.locator(f"{within} .sol-state").first
    expect(state).to_have_text("Finished", timeout=PATIENCE_MS)


def _show(page: Page, selector: str) -> None:
    """On a phone the form stands above: scroll to the result; on a desk both are in view."""
    if _is_wide(page):
        page.evaluate("scrollTo(0, 0)")
    else:
        page.locator(selector).first.evaluate("(one) => one.scrollIntoView({ block: 'start' })")


def _is_wide(page: Page) -> bool:
    return bool(page.evaluate("innerWidth > 899"))


# In the order in which they are taken: History shows what the pages before it made.
PAGES: dict[str, Callable[[Visitor], None]] = {
    "explore-open": _opened,
    "explore": _generated,
    "compare": _compared,
    "inspect": _inspected,
    "train": _trained,
    "evaluate": _at("Evaluate", ".sol-evaluate .sol-status"),
    "accuracy": _at("Accuracy", ".sol-accuracy .sol-status"),
    "policies": _at("Policies"),
    "history": _at("History"),
    "learn": _learnt,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    take(args.url, args.folder)


if __name__ == "__main__":
    main()
