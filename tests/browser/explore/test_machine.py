"""The machine: pixels and words are those of the token on show, by whatever way it came there."""

import dataclasses
import itertools

import numpy as np
import pytest
from playwright.sync_api import expect

from app.web.modules import module_url
from app.web.theme_colours import LIGHT, Rgb
from sol_core.actions import GRIDS
from sol_core.generation.sequence import page_reads
from tests.browser.conftest import comes_to
from tests.sol_core.generation.page_levels import by_level, levels_of
from tests.support.fake_engine import FAKE_MODEL, FakeEngine

pytestmark = pytest.mark.browser
LAYERS = FAKE_MODEL.spec.num_layers
# Of sheet.js and lanes.js: top and height of the pages, height of one, and what is beside them; px.
TOP, TALL, PAGE_TALL, LEFT, RIGHT = 16, 72, 10, 94, 190


def machine(page):
    # By its class: a role is looked for among all tokens.
    return page.locator(".sol-machine")


def field(page):
    return machine(page).locator(".sol-machine-field")  # the recording has one of its own


def caption(page):
    return page.locator(".sol-machine-caption")


def record_of(run, index):
    """How many cells a token's record has, and their levels."""
    reads = run[index]["page_reads"]
    return reads["cells"], levels_of(reads["levels"], reads["cells"], LAYERS)


def levels_in(cells, levels):
    return {level for layer in levels for level in layer}


def pixels(page, cells):
    """Colours in the middle of every page of every layer, as the canvas has them."""
    found = field(page).evaluate(
        """(canvas, [layers, cells, top, tall, each, left, right]) => {
          const brush = canvas.getContext("2d");
          const width = (canvas.width - left - right) / layers;
          const height = Math.min(tall, each * cells) / cells;
          const numbers = (count) => Array.from({ length: count }, (_, at) => at + 0.4);
          return numbers(layers).map((layer) => numbers(cells).map((cell) =>
            [...brush.getImageData(left + layer * width, top + cell * height, 1, 1).data]));
        }""",
        [LAYERS, cells, TOP, TALL, PAGE_TALL, LEFT, RIGHT],
    )
    return [[tuple(pixel[:3]) for pixel in layer] for layer in found]


def expect_drawn(page, cells, levels, palette=LIGHT):
    """Every page has the colour of its level: dark, two in between, lit."""
    dark, lit = (
        tuple(map(round, Rgb.parse(one))) for one in (palette["track"], palette["attention"])
    )

    def ends():
        found = by_level(levels, pixels(page, cells))
        return found.get(0, {dark}), found.get(3, {lit})

    comes_to(ends, ({dark}, {lit}))  # they fade in
    found = by_level(levels, pixels(page, cells))
    assert all(len(colours) == 1 for colours in found.values()), found
    assert len({next(iter(colours)) for colours in found.values()}) == len(found)


def shown_run(visitor, server):
    return server.services.store.runs.events(str(visitor.run_id()))


def test_lit_and_dark_pages_are_those_of_the_token_on_show(serve, visit):
    server = serve(FakeEngine(step_s=0.001))
    visitor = visit(server)
    page = visitor.page
    expect(machine(page)).to_be_hidden()
    visitor.answer(max_new_tokens=200)
    events = shown_run(visitor, server)
    expect(caption(page)).to_contain_text("Token 200 “")  # the newest
    expect_drawn(page, *record_of(events, 199))
    sparse = [at for at in range(200) if {0, 1, 2, 3} == levels_in(*record_of(events, at))]
    assert len(sparse) > 20
    for index in (sparse[-1], sparse[0]):
        visitor.tokens.nth(index).hover()
        expect(caption(page)).to_contain_text(f"Token {index + 1} “")
        expect_drawn(page, *record_of(events, index))
    reads, cost = events[index]["page_reads"], events[index]["cost"]
    mlp = cost["mlp_bytes"] / events[index]["dense_cost"]["mlp_bytes"]
    kept = round(reads["share"] * reads["pages"])
    expect(caption(page)).to_contain_text(
        f"{kept} of {reads['pages']} pages read in each layer, "
        f"{int(100 * mlp + 0.5)} % of the MLP, {events[index]['action']['bit_width']} bits"
    )
    # Of the rest of the page, nothing moves the picture: it stays at the last one looked at.
    page.mouse.move(2, 2)
    expect(visitor.card).to_be_hidden()
    expect(caption(page)).to_contain_text(f"Token {index + 1} “")


def module(page, source, argument):
    """A function of reads.js, imported into the page, applied to each of the arguments."""
    return page.evaluate(
        f"async ([url, all]) => {{ const reads = await import(url); return all.map({source}); }}",
        [f"{page.url.split('?')[0]}{module_url('shared/machine/reads.js')}", argument],
    )


def test_the_page_reads_records_as_python_writes_them(serve, visit):
    page = visit(serve()).page
    random = np.random.default_rng(0)
    records, wanted = [], []
    for layers, pages in itertools.product((1, 2, 30, 31, 80), (1, 2, 3, 5, 64, 65, 999)):
        readers = random.integers(0, 4, (layers, pages)) * (random.random((layers, pages)) < 0.5)
        readers[:, -1] = np.maximum(readers[:, -1], 1)  # every layer reads a page
        made = page_reads(readers.astype(np.uint8), 3)
        records.append({"page_reads": dataclasses.asdict(made)})
        levels = levels_of(made.levels, made.cells, layers)
        wanted.append([layers, list(itertools.chain.from_iterable(levels))])
    read = (
        "(row) => { const { layers, levels } = reads.readsOf(row); return [layers, [...levels]]; }"
    )
    assert module(page, read, records) == wanted
    broken = [
        {},
        {"page_reads": None},
        *({"page_reads": records[5]["page_reads"] | change} for change in (
            {"cells": 0}, {"cells": 65}, {"cells": 10**9}, {"levels": "?"}, {"levels": ""},
            {"levels": "A" * 10**6}, {"levels": "AAAA"}, {"pages": -1},
        )),
    ]  # fmt: skip
    assert module(page, "(row) => reads.readsOf(row)", broken) == [None] * len(broken)


def test_the_page_splits_the_mlp_as_the_engine_does(serve, visit):
    page = visit(serve()).page
    for grid in GRIDS.values():
        asked = [[grid.to_dict(), ratio] for ratio in (*grid.channel_keep_ratios, 0.123, 0.777)]
        found = module(page, "([grid, ratio]) => reads.mlpShares(grid, ratio)", asked)
        for (_, ratio), shares in zip(asked, found, strict=True):
            assert shares == pytest.approx(grid.mechanisms.mlp_shares(ratio))
