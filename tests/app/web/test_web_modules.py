"""The pages' modules, as they are served and bundled; their words, colours and what they load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.web import modules
from app.web.assets import page_axes, plotly_path, site_data, terms
from app.web.component import mount_script
from app.web.modules import JS, bundle, dependencies, in_order, module_route, module_url
from app.web.theme import colour_css
from app.web.theme_colours import (
    DARK,
    DIFFERENCE_BINS,
    LIGHT,
    NUM_BINS,
    SCALE,
    Palette,
    Rgb,
    contrast,
    difference_tint,
    ink,
)
from sol_core.actions import GRIDS, ActionGrid

ALL = sorted(path.relative_to(JS).as_posix() for path in JS.rglob("*.js"))
EXPORTED_PAGES = [name for name in ALL if re.search(r"sharing/shared_(?!parts)", name)]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tree of modules for a test to write, instead of the page's."""
    monkeypatch.setattr(modules, "JS", tmp_path)
    for cached in (modules._hash, modules._read):
        cached.cache_clear()
    yield tmp_path
    for cached in (modules._hash, modules._read):
        cached.cache_clear()


def client() -> TestClient:
    return TestClient(Starlette(routes=[module_route()]))


def test_no_module_reaches_itself() -> None:
    for name in ALL:
        before = in_order(*dependencies(name))
        assert name not in before


def test_a_module_is_served_for_good() -> None:
    answer = client().get(f"/{module_url('shared/dom.js')}")
    assert answer.status_code == 200
    assert answer.content == (JS / "shared" / "dom.js").read_bytes()
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]


def test_another_release_and_other_files_are_not_served() -> None:
    here = module_url("shared/dom.js")
    for path in (
        here.replace("/shared", "0/shared"),
        module_url("../css/base.css"),
        module_url("%2e%2e/modules.py"),
        module_url("shared"),
        module_url(""),
    ):
        answer = client().get(f"/{path}")
        assert answer.status_code == 404, path
        assert "immutable" not in answer.headers.get("cache-control", "")


def test_a_changed_module_changes_every_address(tree: Path) -> None:
    (tree / "a.js").write_text("export const A = 1;\n")
    (tree / "b.js").write_text("export const B = 1;\n")
    before = module_url("a.js")
    (tree / "b.js").write_text("export const B = 2;\n")
    modules._hash.cache_clear()
    assert module_url("a.js") != before


@pytest.mark.parametrize("entry", EXPORTED_PAGES)
def test_an_exported_page_is_one_script(entry: str) -> None:
    script = bundle(entry)
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert script.index("class TokenView") < script.index('pageElement("main")')
    assert "</script" not in script
    assert "loadPlotly" not in script, "a file has no server to load plotly from"


def test_two_modules_of_one_script_have_no_name_in_common(tree: Path) -> None:
    (tree / "a.js").write_text("const same = 1;\nexport const A = same;\n")
    (tree / "b.js").write_text('import { A } from "./a.js";\n\nconst same = A;\n')
    with pytest.raises(ValueError, match=r"a\.js and b\.js both have same"):
        bundle("b.js")


TERM = re.compile(r"\[\[([a-z][a-z -]*)(?:\|[^\]\[]+)?\]\]")


def test_every_term_used_is_explained_and_every_one_explained_is_used() -> None:
    used = {key for path in JS.rglob("*.js") for key in TERM.findall(path.read_text("utf-8"))}
    assert used == set(terms())


MODULES = {path.relative_to(JS).as_posix(): path.read_text("utf-8") for path in JS.rglob("*.js")}


PARSES_HTML = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write")


THEMES = pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])


@pytest.mark.parametrize("ground", SCALE, ids=Rgb.hex)
def test_token_text_is_readable_on_every_tint(ground: Rgb) -> None:
    assert contrast(ink(ground), ground) >= 4.5
    names = f"--tint: {ground.hex()}; --ink: {ink(ground).hex()};"
    assert f'.sol-token[data-bin="{SCALE.index(ground)}"] {{ {names} }}' in colour_css()


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_no_two_levels_of_a_grid_have_one_tint(grid: ActionGrid) -> None:
    for levels, axis in zip(grid.levels(), page_axes(), strict=True):
        low, high = axis["min"], axis["max"]
        levels = [axis["scale"] * level for level in levels]
        bins = [round((level - low) / (high - low) * (NUM_BINS - 1)) for level in levels]
        assert len(set(bins)) == len(levels)


@THEMES
@pytest.mark.parametrize("bin_index", range(DIFFERENCE_BINS))
def test_token_text_is_readable_on_every_difference(palette: Palette, bin_index: int) -> None:
    assert contrast(Rgb.parse(palette["text"]), difference_tint(bin_index, palette)) >= 4.5


def test_the_pages_load_nothing_from_elsewhere() -> None:
    assert plotly_path().is_file()
    sheets = [path.read_text("utf-8") for path in (JS.parent / "css").rglob("*.css")]
    sources = "\n".join([*MODULES.values(), *sheets])
    assert len(sheets) > 10
    links = set(re.findall(r"https?://[^\s\"'`)]+", sources))
    # The second is the frame around a Space, which is spoken to; nothing is read from it. The third
    # is where a model card's reference leads when it is clicked.
    ours = {
        "http://www.w3.org/2000/svg",
        "https://huggingface.co",
        "https://arxiv.org/abs/${number}",
    }
    assert links <= ours
    assert "@import" not in sources


def test_no_script_parses_text_as_html() -> None:
    assert len(MODULES) > 60
    for name, source in MODULES.items():
        assert not PARSES_HTML.search(source), name


def test_constants_cannot_end_the_script_they_are_in() -> None:
    for script in (
        mount_script("explore/explore.js", "server", {"label": "</script>\u2028"}),
        site_data({"label": "</script>\u2028"}).removesuffix("</script>"),
    ):
        assert "</script>" not in script
        assert "\u2028" not in script
