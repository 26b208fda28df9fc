"""The look that all tabs share: a Gradio theme and the style sheet's colour variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.web.theme_colours import DARK, DIFFERENCE_BINS, LIGHT, SCALE, Palette, difference_tint, ink
from sol_core.actions import AXES

if TYPE_CHECKING:
    import gradio as gr

_LANE, _LANE_PITCH = 6, 8  # height of a token's lane, from one to the next: px
_SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]


def build_theme() -> gr.themes.Base:
    """The Gradio theme; both themes take every colour from ``theme_colours``."""
    import gradio as gr

    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.slate,
        neutral_hue=gr.themes.colors.stone,
        font=[*_SANS, "sans-serif"],
        font_mono=list(_MONO),
        radius_size=gr.themes.sizes.radius_md,
    )
    settings: dict[str, str] = {}
    for variable, name in _THEME_COLOURS.items():
        settings[variable] = LIGHT[name]
        settings[f"{variable}_dark"] = DARK[name]
    return theme.set(**settings)


_THEME_COLOURS = {
    "body_background_fill": "page",
    "body_text_color": "text",
    "body_text_color_subdued": "muted",
    "background_fill_primary": "panel",
    "background_fill_secondary": "sunken",
    "block_background_fill": "panel",
    "block_border_color": "line",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "input_background_fill": "panel",
    "input_border_color": "edge",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent",
    "button_primary_text_color": "on_accent",
    "slider_color": "accent",
}


def colour_css() -> str:
    """CSS custom properties ``--sol-…`` for both themes, and one rule for each tint."""
    rules = [f":root {{ {_variables(LIGHT)} }}", f".dark {{ {_variables(DARK)} }}"]
    return "\n".join(rules + _axis_rules() + _tint_rules())


def follow_system_css() -> str:
    """As ``colour_css``, for a document outside Gradio: the theme and fonts are the system's."""
    fonts = f"--font: {_font_list(_SANS, 'sans-serif')}; --font-mono: {_font_list(_MONO)};"
    rules = [
        f":root {{ color-scheme: light dark; {fonts} {_variables(LIGHT)} }}",
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}",
    ]
    return "\n".join(rules + _axis_rules() + _tint_rules())


def _axis_rules() -> list[str]:
    """The colour of every axis, and the lanes of a token, the first axis's on top."""
    rules = [f'[data-axis="{axis.key}"] {{ --axis: var(--sol-{axis.key}); }}' for axis in AXES]
    lanes = [
        f"linear-gradient(to top, var(--sol-{axis.key}) calc(var(--{axis.key}) * 100%), "
        f"var(--sol-track) 0) 0 calc(100% - {below * _LANE_PITCH}px) / 100% {_LANE}px no-repeat"
        for below, axis in enumerate(reversed(AXES))
    ]
    height = len(AXES) * _LANE_PITCH
    rules.append(f".sol-token {{ --lanes: {', '.join(lanes)}; --lanes-height: {height}px; }}")
    return rules


def _tint_rules() -> list[str]:
    tints = [f"--tint: {colour.hex()}; --ink: {ink(colour).hex()};" for colour in SCALE]
    return [
        *(f'.sol-token[data-bin="{at}"] {{ {tint} }}' for at, tint in enumerate(tints)),
        *(
            f'.sol-token[data-difference="{index}"] {{ --tint: var(--sol-difference-{index}); }}'
            for index in range(DIFFERENCE_BINS)
        ),
    ]


def _font_list(names: list[str], *generic: str) -> str:
    return ", ".join([*(f'"{name}"' if " " in name else name for name in names), *generic])


def _variables(palette: Palette) -> str:
    colours = {f"--sol-{name.replace('_', '-')}": colour for name, colour in palette.items()}
    for index in range(DIFFERENCE_BINS):
        colours[f"--sol-difference-{index}"] = difference_tint(index, palette).hex()
    return " ".join(f"{name}: {value};" for name, value in colours.items())
