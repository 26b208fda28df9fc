"""The look that all tabs share: every colour, once, a Gradio theme and the colours as CSS.

A token that spent more stands out more: its tint goes from nearly the panel's to navy in the light
theme, along viridis (Smith, van der Walt, Firing 2015) in the dark one, in steps that look equally
large (CIE 1976); its text is black or white, whichever stands out more, 4.6:1 at least. The lanes
are Okabe and Ito's blue, vermilion and green, which stay apart under deuteranopia. A difference
goes from orange over nothing to blue, the pair that every kind of colour vision tells apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sol_core.actions import AXES

if TYPE_CHECKING:
    import gradio as gr

DIFFERENCE_BINS = 15  # odd: the middle one is "no difference" and has no tint
DIFFERENCE_PERCENT = 50  # of a difference's colour in its largest tint
_LANE, _LANE_PITCH = 5, 6  # height of a token's lane, from one to the next: px
_SANS = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
_MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, Liberation Mono, monospace"


Palette = dict[str, str]  # the colours of one theme by name, each as #rrggbb
# Each colour in the light theme and in the dark one.
_COLOURS = {
    "page": ("#f5f5f2", "#0c0f13"),
    "panel": ("#ffffff", "#14181e"),
    "sunken": ("#f7f7f5", "#10141a"),  # wells inside the panels
    "text": ("#16191d", "#f1f3f5"),
    "muted": ("#59616b", "#a1abb8"),
    "line": ("#e0e1dc", "#2a313a"),
    "edge": ("#878e97", "#697481"),  # of what can be operated: 3:1 or more
    "accent": ("#14305c", "#f0d95b"),
    "on_accent": ("#ffffff", "#14181e"),
    "attention": ("#0072b2", "#56b4e9"),
    "channels": ("#d55e00", "#ff8a3d"),
    "bits": ("#009e73", "#2fd0a0"),
    "track": ("#e8e8e4", "#262d36"),  # the unfilled part of a lane
    "kl": ("#a3297a", "#f08cc8"),
    "surprisal": ("#6b7480", "#8f9aa8"),
    "good": ("#0b6b4c", "#4fd1a1"),
    "bad": ("#b3261e", "#ff8a80"),
    # The ends of a difference, as they are tinted into the panel.
    "worse": ("#e08a00", "#d97a00"),
    "better": ("#1f6fd0", "#2f86f0"),
}
LIGHT, DARK = ({name: pair[theme] for name, pair in _COLOURS.items()} for theme in (0, 1))

# Of a token's tint, from little to much.
_LIGHT_STEPS = """
    #edf7f1 #dbf1e5 #c7ead9 #b2e1ce #9bd8c5 #83cfbe #69c4b7
    #56b7b1 #49acaf #3fa2ad #3698ac #2e8ea9 #2a84a6 #297ba3
    #2a71a0 #2a6699 #29598d #234a7e #1c3c6f #152f5f
"""
_DARK_STEPS = """
    #440154 #472070 #44367f #3e4889 #38578b #32658d #2c738e
    #27808e #238e8c #209b89 #27a783 #32b37c #44bd70 #5bc663
    #72cf55 #8cd545 #a7db34 #c2e02a #e0e327 #fde725
"""
LIGHT_SCALE, DARK_SCALE = (tuple(steps.split()) for steps in (_LIGHT_STEPS, _DARK_STEPS))
NUM_BINS = len(DARK_SCALE)  # two levels of a grid never share one
BLACK, WHITE = "#000000", "#ffffff"
_EVEN_LUMINANCE = (0.05 * 1.05) ** 0.5 - 0.05  # on which both have the same contrast


def scale_colour(value: float) -> str:
    """Return the dark theme's tint for ``value`` in [0, 1]."""
    return DARK_SCALE[round(min(max(value, 0.0), 1.0) * (NUM_BINS - 1))]


def rgb(colour: str) -> bytes:
    """Return the sRGB channels of ``#rrggbb``, 0 to 255 each."""
    return bytes.fromhex(colour[1:])


def ink(background: str) -> str:
    """Return black or white, whichever has the larger contrast on a colour (WCAG 2)."""
    red, green, blue = (_linear(channel / 255) for channel in rgb(background))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return BLACK if luminance > _EVEN_LUMINANCE else WHITE


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


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
}


def build_theme() -> gr.themes.Base:
    """The Gradio theme; every colour is one of ``LIGHT`` or ``DARK``."""
    import gradio as gr

    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.slate,
        neutral_hue=gr.themes.colors.stone,
        font=_SANS.split(", "),
        font_mono=_MONO.split(", "),
        radius_size=gr.themes.sizes.radius_md,
    )
    settings: dict[str, str] = {}
    for variable, name in _THEME_COLOURS.items():
        settings[variable] = LIGHT[name]
        settings[f"{variable}_dark"] = DARK[name]
    return theme.set(**settings)


def colour_css() -> str:
    """Return CSS custom properties ``--sol-…`` for both themes, and one rule for each tint."""
    return "\n".join([_LIGHT_RULE, f".dark, .sol-dark {{ {_DARK_VARIABLES} }}", *_SHARED_RULES])


def follow_system_css() -> str:
    """Return ``colour_css`` for a document outside Gradio, with the system's theme and fonts."""
    rules = [
        f":root {{ color-scheme: light dark; --font: {_SANS}; --font-mono: {_MONO}; }}",
        _LIGHT_RULE,
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_DARK_VARIABLES} }} }}",
        f".sol-dark {{ {_DARK_VARIABLES} }}",
    ]
    return "\n".join([*rules, *_SHARED_RULES])


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
    tints = [
        f':is(.sol-token, .sol-strip i)[data-bin="{at}"] '
        f"{{ --tint: var(--sol-tint-{at}); --ink: var(--sol-ink-{at}); }}"
        for at in range(NUM_BINS)
    ]
    middle = DIFFERENCE_BINS // 2
    differences = [
        f'.sol-token[data-difference="{at}"] {{ --tint: color-mix(in srgb, '
        f"var(--sol-{'better' if at > middle else 'worse'}) "
        f"{DIFFERENCE_PERCENT * abs(at - middle) / middle:.1f}%, var(--sol-panel)); }}"
        for at in range(DIFFERENCE_BINS)
    ]
    return tints + differences


def _variables(palette: Palette, scale: tuple[str, ...]) -> str:
    colours = {name.replace("_", "-"): colour for name, colour in palette.items()}
    for at, tint in enumerate(scale):
        colours |= {f"tint-{at}": tint, f"ink-{at}": ink(tint)}
    return " ".join(f"--sol-{name}: {value};" for name, value in colours.items())


_LIGHT_RULE = f":root, .sol-light {{ {_variables(LIGHT, LIGHT_SCALE)} }}"
_DARK_VARIABLES = _variables(DARK, DARK_SCALE)
_SHARED_RULES = _axis_rules() + _tint_rules()
