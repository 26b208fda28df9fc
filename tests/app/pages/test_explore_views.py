"""Colours, rows for the page, and the text of the pages' own files."""

from __future__ import annotations

import re

import pytest

from app.web.assets import page_axes, plotly_path, site_data
from app.web.component import mount_script
from app.web.modules import JS
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
    assert contrast(Rgb.parse(palette.text), difference_tint(bin_index, palette)) >= 4.5


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
    assert len(MODULES) > 80
    for name, source in MODULES.items():
        assert not PARSES_HTML.search(source), name


def test_constants_cannot_end_the_script_they_are_in() -> None:
    for script in (
        mount_script("explore/explore.js", "server", {"label": "</script>\u2028"}),
        site_data({"label": "</script>\u2028"}).removesuffix("</script>"),
    ):
        assert "</script>" not in script
        assert "\u2028" not in script
