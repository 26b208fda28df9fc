"""The action of one decode step, and the grid of levels it is chosen from.

An action is the paper's triple (arXiv:2605.10875, section 3): how much of the
KV cache attention may read, how many MLP channels are computed, how many bits
the MLP activations get. Schedules live in ``schedules.py``; nothing here
touches a tensor.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from sol_core.errors import ConfigError
from sol_core.fields import Range, check_fields

__all__ = [
    "AXES",
    "DENSE",
    "MAX_BITS",
    "MIN_BITS",
    "SHORT_AXES",
    "Action",
    "ActionGrid",
    "Budget",
    "QuantSite",
    "ceil_fraction",
]

AXES = ("keep_fraction", "channel_keep_ratio", "bit_width")
# The axes as options of the command line, forms and stored results abbreviate them. Inside, an axis
# has its full name.
SHORT_AXES = ("keep", "channels", "bits")
MIN_BITS = 2
MAX_BITS = 16  # "not quantised"
QuantSite = Literal["mlp_output", "mlp_input"]


def ceil_fraction(fraction: float, count: int) -> int:
    """``ceil(fraction · count)``, at least 1, immune to binary rounding.

    0.7 · 10 is 7.000000000000001 in floating point; the user means 7.
    """
    return max(1, math.ceil(fraction * count - 1e-9))


def _check_share(name: str, value: float) -> None:
    if not (isinstance(value, (int, float)) and 0 < value <= 1):  # NaN is neither
        raise ConfigError(f"{name} must be above 0 and at most 1, got {value!r}")


def _check_bits(value: float) -> None:
    if not (isinstance(value, (int, float)) and MIN_BITS <= value <= MAX_BITS):
        raise ConfigError(f"bit_width must be between {MIN_BITS} and {MAX_BITS}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Action:
    """Compute limits of one decode step.

    Attributes:
        keep_fraction: share of cached tokens attention may read, in (0, 1].
        channel_keep_ratio: share of MLP input channels kept, in (0, 1].
        bit_width: bits of the MLP activations, 2 to 16; 16 leaves them untouched.
    """

    keep_fraction: float = 1.0
    channel_keep_ratio: float = 1.0
    bit_width: int = MAX_BITS

    def __post_init__(self) -> None:
        _check_share("keep_fraction", self.keep_fraction)
        _check_share("channel_keep_ratio", self.channel_keep_ratio)
        _check_bits(self.bit_width)
        if isinstance(self.bit_width, bool) or self.bit_width != int(self.bit_width):
            raise ConfigError(f"bit_width must be a whole number, got {self.bit_width!r}")

    @property
    def is_dense(self) -> bool:
        return self == DENSE

    @property
    def net_keep_rate(self) -> float:
        """The paper's one-number efficiency axis: mean of (κ, ρ, b/16)."""
        return (self.keep_fraction + self.channel_keep_ratio + self.bit_width / MAX_BITS) / 3

    def as_tuple(self) -> tuple[float, float, int]:
        return (self.keep_fraction, self.channel_keep_ratio, self.bit_width)


DENSE = Action()


@dataclass(frozen=True, slots=True)
class Budget:
    """A requested or achieved mean spend; the same units as ``Action``, bits may be fractional."""

    keep_fraction: float = 1.0
    channel_keep_ratio: float = 1.0
    bit_width: float = float(MAX_BITS)

    def __post_init__(self) -> None:
        _check_share("keep_fraction", self.keep_fraction)
        _check_share("channel_keep_ratio", self.channel_keep_ratio)
        _check_bits(self.bit_width)

    @property
    def net_keep_rate(self) -> float:
        """The paper's one-number efficiency axis: mean of (κ, ρ, b/16)."""
        return (self.keep_fraction + self.channel_keep_ratio + self.bit_width / MAX_BITS) / 3

    def as_tuple(self) -> tuple[float, float, float]:
        return (self.keep_fraction, self.channel_keep_ratio, self.bit_width)


def _tenths() -> tuple[float, ...]:
    return tuple(round(i / 10, 2) for i in range(1, 11))


def _twentieths() -> tuple[float, ...]:
    return tuple(round(i / 20, 2) for i in range(8, 21))


@dataclass(frozen=True, slots=True)
class ActionGrid:
    """The levels each axis may take, ascending, and the site that is quantised.

    The defaults are the paper's full grid (10 × 13 × 12 = 1,560 actions). The
    quantisation site and the page size belong to the grid's identity: spend on
    one site means something else on the other.
    """

    keep_fractions: tuple[float, ...] = field(default_factory=_tenths)
    channel_keep_ratios: tuple[float, ...] = field(default_factory=_twentieths)
    bit_widths: tuple[int, ...] = tuple(range(5, 17))
    quant_site: QuantSite = "mlp_output"
    page_size: Annotated[int, Range(1, 256)] = 8

    def __post_init__(self) -> None:
        check_fields(self)
        for axis, levels in zip(AXES, self.levels(), strict=True):
            if not levels or list(levels) != sorted(set(levels)):
                raise ConfigError(f"levels of {axis} must be distinct and ascending, got {levels}")
        for keep_fraction in self.keep_fractions:
            Action(keep_fraction)
        for ratio in self.channel_keep_ratios:
            Action(channel_keep_ratio=ratio)
        for bits in self.bit_widths:
            Action(bit_width=bits)

    def levels(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
        """Levels per axis, in the order of ``AXES``."""
        return (self.keep_fractions, self.channel_keep_ratios, self.bit_widths)

    def check_budget(self, budget: Budget) -> None:
        """Raise ``ConfigError`` when a mean spend cannot be reached with these levels."""
        for axis, levels, value in zip(AXES, self.levels(), budget.as_tuple(), strict=True):
            if not levels[0] - 1e-9 <= value <= levels[-1] + 1e-9:
                raise ConfigError(
                    f"{axis} = {value:g} is outside the grid's levels "
                    f"{levels[0]:g} to {levels[-1]:g}"
                )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
