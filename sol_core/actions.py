"""The action of one decode step, and the grid of levels it is chosen from.

An action is the paper's triple (arXiv:2605.10875, section 3): how much of the
KV cache attention may read, how many MLP channels are computed, how many bits
the MLP activations get. Schedules live in ``schedules.py``; nothing here
touches a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from kernels.mlp_pruners import MLP_PRUNERS, MlpPruner
from kernels.page_scorers import PAGE_SCORERS, PageScorer
from sol_core.errors import ConfigError
from sol_core.extensions.registry import ELSEWHERE
from sol_core.fields import OneOf, Range, check_fields

__all__ = [
    "AXES",
    "DEFAULT_GRID",
    "DENSE",
    "GRIDS",
    "MAX_BITS",
    "MIN_BITS",
    "MLP_PRUNERS",
    "PAGE_SCORERS",
    "PAPER",
    "SHORT_AXES",
    "Action",
    "ActionGrid",
    "Budget",
    "Mechanisms",
    "MlpPruning",
    "PageChoice",
    "PageScorerName",
    "QuantSite",
    "ceil_fraction",
    "grid_name",
    "grid_named",
]

AXES = ("keep_fraction", "channel_keep_ratio", "bit_width")
# The axes as options of the command line, forms and stored results abbreviate them. Inside, an axis
# has its full name.
SHORT_AXES = ("keep", "channels", "bits")
MIN_BITS = 2
MAX_BITS = 16  # "not quantised"
QuantSite = Literal["mlp_output", "mlp_input"]
PageScorerName = Annotated[str, OneOf(PAGE_SCORERS, ELSEWHERE)]
PageChoice = Literal["head", "group"]
MlpPruning = Annotated[str, OneOf(MLP_PRUNERS, ELSEWHERE)]


def ceil_fraction(fraction: float, count: int) -> int:
    """``ceil(fraction · count)``, at least 1, immune to binary rounding.

    0.7 · 10 is 7.000000000000001 in floating point; the user means 7.
    """
    return max(1, math.ceil(fraction * count - 1e-9))


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """Ways in which a compressed step skips what its action drops; part of a grid's identity.

    Attributes:
        page_scorer: what pages are chosen by, a name in ``PAGE_SCORERS``.
        page_choice: every query "head" chooses its pages (the paper), or the heads of a KV
            "group" choose together by their mean mass, so that a step reads what it keeps.
        mlp_pruning: which channels of the MLP are dropped, a name in ``MLP_PRUNERS``.
        quant_site: where activations are quantised.
        mlp_split: knots (share of the MLP's bytes, share of input channels), ascending, of a
            piecewise linear curve; only with a pruner that takes one.
    """

    page_scorer: PageScorerName = "quest"
    page_choice: PageChoice = "head"
    mlp_pruning: MlpPruning = "input"
    quant_site: QuantSite = "mlp_output"
    mlp_split: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        object.__setattr__(self, "mlp_split", tuple(tuple(knot) for knot in self.mlp_split))
        if bool(self.pruner.split) != bool(self.mlp_split):
            takes = [name for name, pruner in MLP_PRUNERS.items() if pruner.split]
            raise ConfigError(
                f"mlp_split belongs to mlp_pruning = {' or '.join(takes)}, and is needed there"
            )

    @property
    def scorer(self) -> PageScorer:
        """Declaration of its way to score pages."""
        return PAGE_SCORERS[self.page_scorer]

    @property
    def pruner(self) -> MlpPruner:
        """Declaration of its way to prune the MLP."""
        return MLP_PRUNERS[self.mlp_pruning]

    def mlp_shares(self, channel_keep_ratio: float) -> tuple[float, float]:
        """Share of input channels and of inner channels that an action's ratio keeps."""
        if channel_keep_ratio >= 1:
            return 1.0, 1.0
        return self.pruner.shares(channel_keep_ratio, self.mlp_split)


_CHOICES: dict[str, Collection[str]] = {
    "page_scorer": PAGE_SCORERS,
    "page_choice": get_args(PageChoice),
    "mlp_pruning": MLP_PRUNERS,
    "quant_site": get_args(QuantSite),
}
PAPER = Mechanisms()


def _check_share(name: str, value: float) -> None:
    if not (isinstance(value, (int, float)) and 0 < value <= 1):  # NaN is neither
        raise ConfigError(f"{name} must be above 0 and at most 1, got {value!r}")


def _check_bits(value: float) -> None:
    if not (isinstance(value, (int, float)) and MIN_BITS <= value <= MAX_BITS):
        raise ConfigError(f"bit_width must be between {MIN_BITS} and {MAX_BITS}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Action:
    """Compute limits of one decode step: the paper's triple (arXiv:2605.10875, section 3).

    Raises: ConfigError for a value that is not allowed.
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
        """True where nothing is left out and nothing rounded."""
        return self == DENSE

    @property
    def net_keep_rate(self) -> float:
        """The paper's one-number efficiency axis: mean of (κ, ρ, b/16)."""
        return (self.keep_fraction + self.channel_keep_ratio + self.bit_width / MAX_BITS) / 3

    def as_tuple(self) -> tuple[float, float, int]:
        """The three values in the order of ``AXES``."""
        return (self.keep_fraction, self.channel_keep_ratio, self.bit_width)


DENSE = Action()


@dataclass(frozen=True, slots=True)
class Budget:
    """A requested or achieved mean spend over decode steps.

    Attributes:
        keep_fraction: mean share of cached tokens that attention may read, in (0, 1].
        channel_keep_ratio: mean share of the MLP's channels kept, in (0, 1].
        bit_width: mean bits of the MLP activations, 2 to 16, fractions allowed.
    Raises: ConfigError for a value that is not allowed.
    """

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
        """The three values in the order of ``AXES``."""
        return (self.keep_fraction, self.channel_keep_ratio, self.bit_width)


def _tenths() -> tuple[float, ...]:
    return tuple(round(i / 10, 2) for i in range(1, 11))


def _twentieths() -> tuple[float, ...]:
    return tuple(round(i / 20, 2) for i in range(8, 21))


@dataclass(frozen=True, slots=True)
class ActionGrid:
    """The levels each axis may take, ascending, and how steps skip what they drop.

    The defaults are the paper's full grid (10 × 13 × 12 = 1,560 actions). Mechanisms and page
    size belong to the grid's identity: the same spend means something else under others.

    Attributes:
        keep_fractions, channel_keep_ratios: levels in (0, 1].
        bit_widths: levels of 2 to 16 bits.
        page_size: tokens of a page of the KV cache.
        quant_site, page_scorer, page_choice, mlp_pruning, mlp_split: see ``Mechanisms``.
    Raises: ConfigError for levels that are not ascending, and for what is not allowed.
    """

    keep_fractions: tuple[float, ...] = field(default_factory=_tenths)
    channel_keep_ratios: tuple[float, ...] = field(default_factory=_twentieths)
    bit_widths: tuple[int, ...] = tuple(range(5, 17))
    quant_site: QuantSite = "mlp_output"
    page_size: Annotated[int, Range(1, 256)] = 8
    page_scorer: PageScorerName = "quest"
    page_choice: PageChoice = "head"
    mlp_pruning: MlpPruning = "input"
    mlp_split: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.mlp_split:
            object.__setattr__(self, "mlp_split", MLP_PRUNERS[self.mlp_pruning].split)
        object.__setattr__(self, "mlp_split", self.mechanisms.mlp_split)
        for axis, levels in zip(AXES, self.levels(), strict=True):
            if not levels or list(levels) != sorted(set(levels)):
                raise ConfigError(f"levels of {axis} must be distinct and ascending, got {levels}")
        for keep_fraction in self.keep_fractions:
            Action(keep_fraction)
        for ratio in self.channel_keep_ratios:
            Action(channel_keep_ratio=ratio)
        for bits in self.bit_widths:
            Action(bit_width=bits)

    @property
    def mechanisms(self) -> Mechanisms:
        """Ways in which its steps skip what their actions drop. Raises: ConfigError."""
        return Mechanisms(
            self.page_scorer, self.page_choice, self.mlp_pruning, self.quant_site, self.mlp_split
        )

    def __str__(self) -> str:
        parts = (self.page_scorer, self.page_choice, self.mlp_pruning, self.quant_site)
        return f"{grid_name(self)}: {', '.join(parts)}, pages of {self.page_size}"

    def levels(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
        """Levels per axis, in the order of ``AXES``."""
        return (self.keep_fractions, self.channel_keep_ratios, self.bit_widths)

    def check_budget(self, budget: Budget) -> None:
        """Hold a mean spend to what these levels can reach.

        Args:
            budget: requested, of all axes.
        Raises: ConfigError naming the axis and its levels.
        """
        for axis, levels, value in zip(AXES, self.levels(), budget.as_tuple(), strict=True):
            if not levels[0] - 1e-9 <= value <= levels[-1] + 1e-9:
                raise ConfigError(
                    f"{axis} = {value:g} is outside the grid's levels "
                    f"{levels[0]:g} to {levels[-1]:g}"
                )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; ``ActionGrid(**…)`` reads it back."""
        return asdict(self)


def _default_grid() -> ActionGrid:
    return ActionGrid(
        keep_fractions=(0.05, *_tenths()),
        channel_keep_ratios=tuple(round(i / 20, 2) for i in range(6, 21)),
        page_scorer="int4",
        page_choice="group",
        mlp_pruning="both",
    )


# ``paper`` is the paper's own mechanisms, ``default`` the best of what was measured
# (docs/results.md): 4-bit keys choose pages per KV group, both sides of the MLP are pruned.
GRIDS = {"paper": ActionGrid(), "default": _default_grid()}
DEFAULT_GRID = "default"
OWN_GRID = "own"  # the name of all others


def grid_name(grid: ActionGrid) -> str:
    """The named grid whose levels and mechanisms a grid has, whatever its site; else "own"."""
    at_home = replace(grid, quant_site=ActionGrid().quant_site)
    return next((name for name, one in GRIDS.items() if one == at_home), OWN_GRID)


def grid_named(name: str) -> ActionGrid:
    """A named grid. Raises: ConfigError naming the ones there are."""
    if name not in GRIDS:
        raise ConfigError(f"grid must be one of {', '.join(GRIDS)}, got {name!r}")
    return GRIDS[name]
