"""Every colour of the pages, once.

The tint of a token is cividis (Nuñez, Anderton, Renslow 2018, doi:10.1371/journal.pone.0199239),
mixed at 35 % into the panel: at 50 % the text's contrast drops below 4.5:1 in the dark theme. The
lanes are Okabe and Ito's blue, vermilion and green, which stay apart under deuteranopia. A
difference goes from orange over nothing to blue, the pair that every kind of colour vision tells
apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

NUM_BINS = 16
DIFFERENCE_BINS = 15  # odd: the middle one is "no difference" and has no tint
TINT_SHARE = 0.35
DIFFERENCE_SHARE = 0.5


class Rgb(NamedTuple):
    """An sRGB colour, 0 to 255 per channel."""

    red: float
    green: float
    blue: float

    @classmethod
    def parse(cls, text: str) -> Rgb:
        """From ``#rrggbb``."""
        return cls(*(int(text[at : at + 2], 16) for at in (1, 3, 5)))

    def hex(self) -> str:
        return "#" + "".join(f"{round(channel):02x}" for channel in self)


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one theme, each as ``#rrggbb``.

    Attributes:
        page, panel, sunken: the page, the cards on it, and wells inside the cards.
        text, muted: for reading, and for what is secondary.
        line, edge: borders and grid lines; the edge of what can be operated (3:1 or more).
        accent, on_accent: the primary action, and the text on it.
        attention, channels, bits: the three axes: lanes, chart lines, legends.
        track: the unfilled part of a lane.
        kl, surprisal, perplexity: lines of the quality chart.
        good, bad: success and error.
        worse, better: the ends of a difference, as they are tinted into the panel.
    """

    page: str
    panel: str
    sunken: str
    text: str
    muted: str
    line: str
    edge: str
    accent: str
    on_accent: str
    attention: str
    channels: str
    bits: str
    track: str
    kl: str
    surprisal: str
    perplexity: str
    good: str
    bad: str
    worse: str
    better: str


# Of each colour the light theme's and the dark one's.
_COLOURS = {
    "page": ("#f5f5f2", "#0c0f13"),
    "panel": ("#ffffff", "#14181e"),
    "sunken": ("#f7f7f5", "#10141a"),
    "text": ("#16191d", "#f1f3f5"),
    "muted": ("#59616b", "#a1abb8"),
    "line": ("#e0e1dc", "#2a313a"),
    "edge": ("#878e97", "#697481"),
    "accent": ("#14305c", "#f0d95b"),
    "on_accent": ("#ffffff", "#14181e"),
    "attention": ("#0072b2", "#56b4e9"),
    "channels": ("#d55e00", "#ff8a3d"),
    "bits": ("#009e73", "#2fd0a0"),
    "track": ("#e8e8e4", "#262d36"),
    "kl": ("#a3297a", "#f08cc8"),
    "surprisal": ("#6b7480", "#8f9aa8"),
    "perplexity": ("#16191d", "#f1f3f5"),
    "good": ("#0b6b4c", "#4fd1a1"),
    "bad": ("#b3261e", "#ff8a80"),
    "worse": ("#e08a00", "#d97a00"),
    "better": ("#1f6fd0", "#2f86f0"),
}
LIGHT, DARK = (
    Palette(**{name: pair[theme] for name, pair in _COLOURS.items()}) for theme in (0, 1)
)

_CIVIDIS = tuple(
    Rgb.parse(text)
    for text in (
        "#00224e",
        "#123570",
        "#3b496c",
        "#575d6d",
        "#707173",
        "#8a8678",
        "#a59c74",
        "#c3b369",
        "#e1cc55",
        "#fee838",
    )
)


def mix(over: Rgb, under: Rgb, share: float) -> Rgb:
    """``over`` at opacity ``share`` in [0, 1] on ``under``."""
    return Rgb(*(share * a + (1 - share) * b for a, b in zip(over, under, strict=True)))


def cividis(value: float) -> Rgb:
    """The colour of ``value`` in [0, 1]."""
    place = min(max(value, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    low = min(int(place), len(_CIVIDIS) - 2)
    return mix(_CIVIDIS[low + 1], _CIVIDIS[low], place - low)


def tint(bin_index: int, palette: Palette) -> Rgb:
    """The background of a token whose value falls in bin ``bin_index``."""
    value = bin_index / (NUM_BINS - 1)
    return mix(cividis(value), Rgb.parse(palette.panel), TINT_SHARE)


def difference_tint(bin_index: int, palette: Palette) -> Rgb:
    """The background of a token in bin ``bin_index`` of ``DIFFERENCE_BINS``: worse to better."""
    middle = DIFFERENCE_BINS // 2
    end = palette.better if bin_index > middle else palette.worse
    share = DIFFERENCE_SHARE * abs(bin_index - middle) / middle
    return mix(Rgb.parse(end), Rgb.parse(palette.panel), share)
