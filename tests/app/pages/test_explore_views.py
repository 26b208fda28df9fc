"""Colours, rows for the page, and the text of the pages' own files."""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import pairwise

import pytest

from app.formats.plain_json import budget_text, json_safe
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
    mix,
    scale_colour,
)
from sol_core.actions import GRIDS, ActionGrid
from sol_core.config import GenerationConfig, ScheduleConfig

MODULES = {path.relative_to(JS).as_posix(): path.read_text("utf-8") for path in JS.rglob("*.js")}
PARSES_HTML = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write")
THEMES = pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])


@pytest.mark.parametrize("ground", SCALE, ids=Rgb.hex)
def test_token_text_is_readable_on_every_tint(ground: Rgb) -> None:
    assert contrast(ink(ground), ground) >= 4.5
    names = f"--tint: {ground.hex()}; --ink: {ink(ground).hex()};"
    assert f'.sol-token[data-bin="{SCALE.index(ground)}"] {{ {names} }}' in colour_css()


def test_neighbouring_tints_are_told_apart_and_none_is_much_further() -> None:
    steps = [colour_distance(one, other) for one, other in pairwise(SCALE)]
    assert min(steps) >= 10
    assert max(steps) <= 1.25 * min(steps)


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


@THEMES
def test_a_difference_has_two_sides_also_without_green_cones(palette: Palette) -> None:
    tints = [difference_tint(index, palette) for index in range(DIFFERENCE_BINS)]
    worst, middle, best = tints[0], tints[DIFFERENCE_BINS // 2], tints[-1]
    assert middle == Rgb.parse(palette.panel)
    for see in (deuteranope, lambda colour: colour):
        assert colour_distance(see(worst), see(best)) >= 50
        assert min(colour_distance(see(end), see(middle)) for end in (worst, best)) >= 25
        # Each side only grows away from the middle.
        steps = [colour_distance(see(one), see(middle)) for one in tints]
        assert steps[: DIFFERENCE_BINS // 2] == sorted(steps[: DIFFERENCE_BINS // 2], reverse=True)
        assert steps[DIFFERENCE_BINS // 2 :] == sorted(steps[DIFFERENCE_BINS // 2 :])


@THEMES
def test_text_colours_are_readable_where_they_are_used(palette: Palette) -> None:
    for text in ("text", "muted", "good", "bad"):
        for ground in ("page", "panel", "sunken"):
            ratio = contrast(Rgb.parse(getattr(palette, text)), Rgb.parse(getattr(palette, ground)))
            assert ratio >= 4.5, (text, ground, ratio)
    assert contrast(Rgb.parse(palette.on_accent), Rgb.parse(palette.accent)) >= 4.5
    assert contrast(Rgb.parse(palette.panel), Rgb.parse(palette.bad)) >= 4.5


@THEMES
@pytest.mark.parametrize("share", [step / 10 for step in range(11)])
def test_numbers_are_readable_in_every_cell_of_a_heat_map(palette: Palette, share: float) -> None:
    for heat in ("kl", "attention"):
        cell = mix(Rgb.parse(getattr(palette, heat)), Rgb.parse(palette.sunken), 0.46 * share)
        assert contrast(Rgb.parse(palette.text), cell) >= 4.5, heat


@THEMES
def test_the_ring_of_the_focus_and_errors_stand_out(palette: Palette) -> None:
    for ground in ("page", "panel", "sunken"):
        ring, under = Rgb.parse(palette.accent), Rgb.parse(getattr(palette, ground))
        assert contrast(ring, under) >= 3.0, ground
    bad, panel = Rgb.parse(palette.bad), Rgb.parse(palette.panel)
    assert contrast(bad, mix(bad, panel, 0.07)) >= 4.5


@THEMES
def test_marks_stand_out_from_their_ground(palette: Palette) -> None:
    for mark in ("attention", "channels", "bits", "kl", "surprisal", "perplexity", "edge"):
        assert contrast(Rgb.parse(getattr(palette, mark)), Rgb.parse(palette.panel)) >= 3.0, mark


@THEMES
def test_the_three_lanes_stay_apart_without_green_cones(palette: Palette) -> None:
    lanes = [deuteranope(Rgb.parse(getattr(palette, axis))) for axis in AXIS_COLOURS]
    for at, one in enumerate(lanes):
        for other in lanes[at + 1 :]:
            assert colour_distance(one, other) >= 25


AXIS_COLOURS = ("attention", "channels", "bits")


def deuteranope(colour: Rgb) -> Rgb:
    """Machado, Oliveira, Fernandes 2009 (doi:10.1109/TVCG.2009.113), severity 1."""
    matrix = (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    )
    linear = [_linear(channel / 255) for channel in colour]
    mixed = [sum(weight * part for weight, part in zip(row, linear, strict=True)) for row in matrix]
    return Rgb(*(255 * _gamma(min(max(part, 0.0), 1.0)) for part in mixed))


def colour_distance(one: Rgb, other: Rgb) -> float:
    """CIE 1976 ΔE."""
    return sum((a - b) ** 2 for a, b in zip(_lab(one), _lab(other), strict=True)) ** 0.5


def _lab(colour: Rgb) -> tuple[float, float, float]:
    red, green, blue = (_linear(channel / 255) for channel in colour)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    cube = [part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z)]
    return (116 * cube[1] - 16, 500 * (cube[0] - cube[1]), 200 * (cube[1] - cube[2]))


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def _gamma(part: float) -> float:
    return 12.92 * part if part <= 0.0031308 else float(1.055 * part ** (1 / 2.4) - 0.055)


def test_the_scale_goes_from_dark_to_yellow_and_only_gets_lighter() -> None:
    assert scale_colour(0) == SCALE[0] == Rgb.parse("#440154")
    assert scale_colour(1) == SCALE[-1] == Rgb.parse("#fde725")
    light = [contrast(scale_colour(step / 20), Rgb(0, 0, 0)) for step in range(21)]
    assert light == sorted(light)


def test_missing_numbers_become_null_everywhere() -> None:
    assert json_safe({"a": [float("nan"), 1.0, (float("inf"),)]}) == {"a": [None, 1.0, [None]]}


def test_budgets_fit_on_one_line() -> None:
    config = GenerationConfig(schedule=ScheduleConfig("static")).to_dict()
    assert budget_text(config) == "100 % attention · 100 % MLP · 16 bits"
    dense = GenerationConfig(schedule=ScheduleConfig("dense")).to_dict()
    assert budget_text(dense) == "100 % compute"


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


def test_every_colour_of_both_themes_is_a_variable() -> None:
    css = colour_css()
    for name in asdict(LIGHT):
        assert css.count(f"--sol-{name.replace('_', '-')}: ") == 2
