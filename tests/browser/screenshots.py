"""The pictures of the documents: three pages in light colours, 1,440 px wide.

Run it against a page that is up, on the real model:

    python -m tests.browser.screenshots http://127.0.0.1:7860/ FOLDER
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from app.results.shipped import shipped_recording
from tests.browser.conftest import ARGUMENTS, NAMES, Visitor

SIZE = {"width": 1440, "height": 1000}
COLOURS = 160  # of a picture: enough for text and both scales, a third of the bytes
PATIENCE_MS = 300_000  # for the real model's answers
QUESTION = "Question: How far can the lamp be seen?\nAnswer: The lamp can be seen for"


def take(url, folder):
    """Write ``PAGE-light-1440.png`` for every page."""
    folder.mkdir(parents=True, exist_ok=True)
    path = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        context = browser.new_context(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        context.set_default_timeout(PATIENCE_MS)
        visitor = Visitor(context.new_page(), url)
        visitor.open()
        for name, show in PAGES.items():
            show(visitor)
            visitor.page.evaluate("scrollTo(0, 0)")
            visitor.page.wait_for_timeout(1500)  # charts are drawn, nothing moves any more
            picture = Image.open(io.BytesIO(visitor.page.screenshot()))
            few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2)
            few.save(folder / f"{name}-light-1440.png", optimize=True)
        browser.close()


def _generated(visitor):
    """The story's first question, as the opening asks it, and what its answer needed."""
    page = visitor.page
    page.get_by_label("Chat", exact=True).uncheck(force=True)
    story = shipped_recording("bfloat16")["story"]
    visitor.set_advanced("Stop strings", ".")
    page.get_by_text("Advanced", exact=True).locator("visible=true").click()
    visitor.prompt.fill(f"{story}\n\n{QUESTION}")
    page.wait_for_timeout(1500)  # the dial moves to what so long a prompt allows
    visitor.answer(f"{story}\n\n{QUESTION}", timeout=PATIENCE_MS)
    expect(page.locator(".sol-page-said").filter(visible=True)).to_contain_text("needed")


PAGES = {
    "explore": _generated,
    "evaluate": lambda visitor: visitor.tab("Evaluate"),
    "accuracy": lambda visitor: visitor.tab("Accuracy"),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    take(args.url, args.folder)
