"""The machine: pixels and words are those of the token on show, by whatever way it came there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.sharing import export
from app.web.modules import module_url
from app.web.theme_colours import DARK, LIGHT, Palette, Rgb
from sol_core.actions import GRIDS
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.events import event_to_dict
from sol_core.generation.sequence import page_reads
from tests.browser.axe import violations
from tests.browser.conftest import Server, Visitor, comes_to
from tests.browser.exported import offline
from tests.sol_core.generation.page_levels import by_level, levels_of
from tests.support.fake_engine import FAKE_MODEL, FakeEngine, make_token

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
LAYERS = FAKE_MODEL.spec.num_layers
WIDE = {"width": 1280, "height": 900}
# Of sheet.js and lanes.js: top and height of the pages, height of one, and what is beside them; px.
TOP, TALL, PAGE_TALL, LEFT, RIGHT = 16, 72, 10, 94, 190
HOSTILE = ("<img src=x onerror='window.bad=1'>", "${7*7}", "\u202eevil", "\n", "", "x" * 300)


def machine(page: Page) -> Locator:
    # By its class: a role is looked for among all tokens.
    return page.locator(".sol-machine")


def field(page: Page) -> Locator:
    return machine(page).locator(".sol-machine-field")  # the recording has one of its own


def caption(page: Page) -> Locator:
    return page.locator(".sol-machine-caption")


def finished(serve: Serve, visit: Visit, tokens: int = 40, **options: Any) -> Visitor:
    visitor = visit(serve(FakeEngine(step_s=0.001)), **options)
    visitor.generate("The lighthouse keeper", max_new_tokens=tokens)
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(tokens)
    return visitor


def record_of(server_run: list[dict[str, Any]], index: int) -> tuple[int, list[list[int]]]:
    """How many cells a token's record has, and their levels."""
    reads = server_run[index]["page_reads"]
    return reads["cells"], levels_of(reads["levels"], reads["cells"], LAYERS)


def levels_in(cells: int, levels: list[list[int]]) -> set[int]:
    return {level for layer in levels for level in layer}


def pixels(page: Page, cells: int) -> list[list[tuple[int, ...]]]:
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


def expect_drawn(page: Page, cells: int, levels: list[list[int]], palette: Palette = LIGHT) -> None:
    """Every page has the colour of its level: dark, two in between, lit."""
    dark, lit = (tuple(map(round, Rgb.parse(one))) for one in (palette.track, palette.attention))

    def ends() -> tuple[set[Any], set[Any]]:
        found = by_level(levels, pixels(page, cells))
        return found.get(0, {dark}), found.get(3, {lit})

    comes_to(ends, ({dark}, {lit}))  # they fade in
    found = by_level(levels, pixels(page, cells))
    assert all(len(colours) == 1 for colours in found.values()), found
    assert len({next(iter(colours)) for colours in found.values()}) == len(found)


def shown_run(visitor: Visitor, server: Server) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = server.services.store.runs.events(str(visitor.run_id()))
    return events


def test_lit_and_dark_pages_are_those_of_the_token_on_show(serve: Serve, visit: Visit) -> None:
    server = serve(FakeEngine(step_s=0.001))
    visitor = visit(server)
    page = visitor.page
    expect(machine(page)).to_be_hidden()
    visitor.generate(max_new_tokens=200)
    visitor.expect_state("Finished")
    events = shown_run(visitor, server)
    expect(caption(page)).to_contain_text("Token 200 “")  # the newest
    expect_drawn(page, *record_of(events, 199))
    sparse = [at for at in range(200) if {0, 1, 2, 3} == levels_in(*record_of(events, at))]
    assert len(sparse) > 20
    for index in (sparse[-1], sparse[10], sparse[0]):
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


def test_a_dense_step_reads_every_page(serve: Serve, visit: Visit) -> None:
    server = serve(FakeEngine(step_s=0.001))
    visitor = visit(server)
    visitor.page.get_by_role("radio", name="Full model").first.check(force=True)
    visitor.generate(max_new_tokens=30)
    visitor.expect_state("Finished")
    cells, levels = record_of(shown_run(visitor, server), 29)
    assert levels_in(cells, levels) == {3}
    expect_drawn(visitor.page, cells, levels)
    expect(caption(visitor.page)).to_contain_text("7 of 7 pages read")
    expect(machine(visitor.page)).to_contain_text("Full model: reads everything")


def test_arrows_and_buttons_go_from_token_to_token(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    page = visitor.page
    expect(caption(page)).to_contain_text("Token 40 “")
    visitor.tokens.nth(10).focus()
    expect(caption(page)).to_contain_text("Token 11 “ so”")
    page.keyboard.press("ArrowRight")
    expect(caption(page)).to_contain_text("Token 12 “")
    machine(page).get_by_role("button", name="Previous token").click()
    expect(caption(page)).to_contain_text("Token 11 “")
    machine(page).get_by_role("button", name="Previous token").click()
    expect(caption(page)).to_contain_text("Token 10 “")
    expect(page.locator(".sol-lines .is-marked")).to_have_attribute(
        "aria-label", re.compile("Token 10:")
    )
    machine(page).get_by_role("button", name="Next token").click()
    expect(caption(page)).to_contain_text("Token 11 “")
    # In the text the arrow keys go on from there.
    assert page.locator('.sol-lines [tabindex="0"]').evaluate("(one) => one.solIndex") == 10
    # Beyond the ends nothing happens.
    visitor.tokens.first.focus()
    machine(page).get_by_role("button", name="Previous token").click()
    expect(caption(page)).to_contain_text("Token 1 “")


def test_it_plays_to_the_end_and_from_the_beginning(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, tokens=12)
    page = visitor.page
    page.evaluate(
        """() => { window.said = [];
        new MutationObserver(() => window.said.push(
          Number(document.querySelector(".sol-machine-caption").textContent.match(/\\d+/)[0])))
          .observe(document.querySelector(".sol-machine-caption"), { childList: true }); }"""
    )
    player = machine(page).get_by_role("button", name="Play token by token")
    player.click()
    expect(player).to_have_attribute("aria-pressed", "true")
    expect(player).to_have_attribute("aria-pressed", "false")
    expect(caption(page)).to_contain_text("Token 12 “")
    assert page.evaluate("window.said") == list(range(1, 13))
    player.click()
    expect(caption(page)).to_contain_text("Token 3 “")
    player.click()
    expect(player).to_have_attribute("aria-pressed", "false")
    stopped = caption(page).inner_text()
    page.wait_for_timeout(400)
    assert caption(page).inner_text() == stopped


def test_while_tokens_stream_it_shows_the_newest_or_the_one_looked_at(
    serve: Serve, visit: Visit
) -> None:
    engine = FakeEngine(step_s=0.01, pause_at=100)
    visitor = visit(serve(engine))
    visitor.generate(max_new_tokens=150)
    expect(visitor.tokens).to_have_count(100)
    expect(caption(visitor.page)).to_contain_text("Token 100 “")
    visitor.tokens.nth(5).hover()
    expect(caption(visitor.page)).to_contain_text("Token 6 “")
    engine.resume.set()
    visitor.expect_state("Finished")
    expect(visitor.tokens).to_have_count(150)
    expect(caption(visitor.page)).to_contain_text("Token 6 “")


def test_a_tokens_card_leaves_the_picture_in_sight(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit, tokens=150)
    # Of the rows of tokens in sight each one's card would have more room over the picture.
    for index in (0, 30, 60, 90):
        visitor.tokens.nth(index).hover()
        expect(visitor.card).to_be_visible()
        visitor.page.wait_for_timeout(60)
        card, picture = visitor.card.bounding_box(), machine(visitor.page).bounding_box()
        assert card is not None
        assert picture is not None
        assert card["height"] >= 199
        assert card["y"] >= picture["y"] + picture["height"]


def test_it_is_described_in_words(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    visitor.tokens.nth(6).hover()
    region = visitor.page.get_by_role("region", name="The machine")
    picture = region.get_by_role("img")
    expect(picture).to_have_attribute(
        "aria-label",
        re.compile(
            r"^One decode step\. .+\. Token 7: believ\. KV cache: \d of 4 pages read in each "
            r"layer, 30 layers\. MLP: \d+ % of its bytes, \d+ % of the input channels, \d+ % of "
            r"the inner ones\. \d+ bits of 16\. \d+ MB of 250 MB read\.$"
        ),
    )
    spoken = machine(visitor.page).get_by_role("status")
    expect(spoken).to_have_text("")  # who hovers sees it
    machine(visitor.page).get_by_role("button", name="Next token").click()
    expect(spoken).to_contain_text("Token 8: ably")


def test_folding_is_remembered_and_a_narrow_page_begins_folded(serve: Serve, visit: Visit) -> None:
    visitor = finished(serve, visit)
    page = visitor.page
    folder = machine(page).get_by_role("button", name="The machine")
    expect(field(page)).to_be_visible()
    folder.click()
    expect(field(page)).to_be_hidden()
    page.reload()
    expect(folder).to_have_attribute("aria-expanded", "false")
    visitor.tokens.nth(3).hover()
    folder.click()
    expect(caption(page)).to_contain_text("Token 4 “")
    page.reload()
    expect(field(page)).to_be_visible()
    address = f"?run={visitor.run_id()}"
    narrow = visit(
        Server(visitor.url, None, None, lambda: None),  # type: ignore[arg-type]  # only its address
        address,
        viewport={"width": 390, "height": 844},
    )
    folder = machine(narrow.page).get_by_role("button", name="The machine")
    expect(folder).to_have_attribute("aria-expanded", "false")
    folder.click()
    expect(field(narrow.page)).to_be_visible()
    assert narrow.overflows(360, 390) == []


def test_a_run_of_before_pages_were_recorded_says_so(serve: Serve, visit: Visit) -> None:
    server = serve()
    store = server.services.store.runs
    config = GenerationConfig(ScheduleConfig("static")).to_dict()
    del config["page_reads"]
    record = store.create("c" * 32, "Of before", "fake-model", "static", config)
    events = [event_to_dict(make_token(at, " sea")) for at in range(4)]
    del events[2]["page_reads"]
    store.append_events(record.id, events)
    store.finish(record.id, "finished")
    visitor = visit(server, f"?run={record.id}")
    for index in (2, 3):
        visitor.tokens.nth(index).hover()
        expect(caption(visitor.page)).to_have_text(
            re.compile(
                f"Token {index + 1} .*: which pages were read was not recorded, "
                "100 % of the MLP, 16 bits"
            )
        )
    expect(machine(visitor.page)).to_contain_text("Static: no policy")


def test_a_token_of_unknown_surprisal_has_no_probability(serve: Serve, visit: Visit) -> None:
    server = serve()
    store = server.services.store.runs
    config = GenerationConfig(ScheduleConfig("static")).to_dict()
    record = store.create("c" * 32, "No number", "fake-model", "static", config)
    token = event_to_dict(make_token(0, " sea")) | {"surprisal": None}
    token["side"] = [{"name": "dense", "surprisal": 0.5, "kl_to_dense": None, "choice": None}]
    store.append_events(record.id, [token])
    store.finish(record.id, "finished")
    visitor = visit(server, f"?run={record.id}")
    visitor.tokens.first.hover()
    expect(machine(visitor.page).locator(".sol-machine-chance")).to_have_text("– probable")
    facts = visitor.page.locator(".sol-card:visible .sol-card-facts")
    expect(facts).to_contain_text(re.compile("– nats.*p = –.*0.500 nats.*here –"))


def test_hostile_text_stays_text(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(FakeEngine(HOSTILE, repeat=False)))
    visitor.generate()
    visitor.expect_state("Finished")
    for index, text in enumerate(HOSTILE):
        visitor.tokens.nth(index).focus()
        expect(caption(visitor.page)).to_contain_text(f"Token {index + 1} “")
        if text.isascii() and text.isprintable() and text:
            shown = caption(visitor.page).locator("bdi").text_content() or ""
            assert shown.replace("\u00a0", " ") == text
    assert visitor.page.locator(".sol-machine img").count() == 0
    assert visitor.page.evaluate("window.bad") is None
    assert visitor.overflows(390, 1280) == []


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 390)], ids=["light", "dark and narrow"]
)
def test_axe_finds_nothing(serve: Serve, visit: Visit, scheme: str, width: int) -> None:
    visitor = finished(serve, visit, color_scheme=scheme)
    expect(caption(visitor.page)).to_contain_text("Token 40 “")
    page = visitor.page
    page.set_viewport_size({"width": width, "height": 844})
    expect(page.locator(".sol-machine.is-stacked")).to_be_visible(visible=width < 600)
    assert list(violations(page)) == []


def test_who_wants_no_motion_sees_each_step_at_once(serve: Serve, visit: Visit) -> None:
    server = serve(FakeEngine(step_s=0.001))
    visitor = visit(server, reduced_motion="reduce")
    visitor.generate(max_new_tokens=120)
    visitor.expect_state("Finished")
    page = visitor.page
    expect(caption(page)).to_contain_text("Token 120 “")
    page.wait_for_timeout(300)
    cells, levels = record_of(shown_run(visitor, server), 118)
    page.evaluate(
        """() => new Promise((done) => {
          document.querySelector("[aria-label='Previous token']").click();
          requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(() => {
            const canvas = document.querySelector(".sol-machine .sol-machine-field");
            window.kept = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            done();
          })));
        })"""
    )
    page.wait_for_timeout(400)
    is_same = field(page).evaluate(
        "(canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
        ".every((one, at) => one === window.kept.data[at])"
    )
    assert is_same
    expect_drawn(page, cells, levels)
    # It still plays.
    machine(page).get_by_role("button", name="Play token by token").click()
    expect(caption(page)).to_contain_text("Token 120 “")


def test_an_exported_page_has_it(
    serve: Serve, visit: Visit, chromium: Browser, tmp_path: Path
) -> None:
    server = serve(FakeEngine(HOSTILE[:1] * 3 + (" sea",) * 60, step_s=0.001, repeat=False))
    visitor = visit(server)
    visitor.generate(max_new_tokens=60)
    visitor.expect_state("Finished")
    events = shown_run(visitor, server)
    file = tmp_path / "run.html"
    text = export(server.services.store, "run", str(visitor.run_id()), "html").text
    file.write_text(text, encoding="utf-8")
    page, problems = offline(chromium, file, color_scheme="dark", viewport=WIDE)
    expect(caption(page)).to_contain_text("Token 60 “")
    page.locator(".sol-lines .sol-token").nth(30).hover()
    expect(caption(page)).to_contain_text("Token 31 “")
    expect_drawn(page, *record_of(events, 30), palette=DARK)
    page.emulate_media(color_scheme="light")
    expect_drawn(page, *record_of(events, 30))
    machine(page).get_by_role("button", name="Next token").click()
    expect(caption(page)).to_contain_text("Token 32 “")
    assert page.evaluate("window.bad") is None
    # What Chromium says of tests that read the canvas.
    assert [one for one in problems if "willReadFrequently" not in one] == []
    page.context.close()


def module(page: Page, source: str, argument: Any) -> Any:
    """A function of reads.js, imported into the page, applied to each of the arguments."""
    return page.evaluate(
        f"async ([url, all]) => {{ const reads = await import(url); return all.map({source}); }}",
        [f"{page.url.split('?')[0]}{module_url('shared/machine/reads.js')}", argument],
    )


def test_the_page_reads_records_as_python_writes_them(serve: Serve, visit: Visit) -> None:
    page = visit(serve()).page
    random = np.random.default_rng(0)
    shapes = [
        (layers, pages) for layers in (1, 2, 30, 31, 80) for pages in (1, 2, 3, 5, 64, 65, 999)
    ]
    records, wanted = [], []
    for layers, pages in shapes:
        readers = random.integers(0, 4, (layers, pages)) * (random.random((layers, pages)) < 0.5)
        readers[:, -1] = np.maximum(readers[:, -1], 1)  # every layer reads a page
        made = page_reads(readers.astype(np.uint8), 3)
        records.append({"page_reads": {"pages": made.pages, "cells": made.cells,
                                       "levels": made.levels, "share": made.share}})  # fmt: skip
        wanted.append(
            [layers, [one for layer in levels_of(made.levels, made.cells, layers) for one in layer]]
        )
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


@pytest.mark.parametrize("name", GRIDS)
def test_the_page_splits_the_mlp_as_the_engine_does(serve: Serve, visit: Visit, name: str) -> None:
    grid = GRIDS[name]
    ratios = [*grid.channel_keep_ratios, 0.05, 0.123, 0.333, 0.777, 0.99]
    found = module(
        visit(serve()).page, "([grid, ratio]) => reads.mlpShares(grid, ratio)",
        [[grid.to_dict(), ratio] for ratio in ratios],
    )  # fmt: skip
    for ratio, shares in zip(ratios, found, strict=True):
        assert shares == pytest.approx(grid.mechanisms.mlp_shares(ratio))
