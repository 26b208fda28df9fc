"""Fixed paths through the plane of attention and channels: a share of the bytes is a point on one.

``LINE`` is the dial of releases before budgets were shares: from dense straight through (0.5,
0.75) and on to the lowest levels. ``ATTENTION_FIRST`` lowers attention to a tenth, then channels.
Bits read no bytes and stay as requested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sol_core.actions import PAPER, ActionGrid, Budget

Corners = tuple[tuple[float, float], ...]  # (keep fraction, channel keep ratio), from dense down
BISECTIONS = 40
# The paper's mechanisms cut only the MLP's input: equal bytes take ratios below other grids'.
PAPER_CHANNEL_LEVELS = tuple(round(i / 20, 2) for i in range(1, 21))


def paper_grid(grid: ActionGrid) -> ActionGrid:
    """Another grid's levels of attention and bits, with the paper's mechanisms."""
    return replace(
        grid,
        channel_keep_ratios=PAPER_CHANNEL_LEVELS,
        page_scorer=PAPER.page_scorer,
        page_choice=PAPER.page_choice,
        page_budget=PAPER.page_budget,
        head=PAPER.head,
        mlp_pruning=PAPER.mlp_pruning,
        mlp_split=(),
    )


def line(grid: ActionGrid) -> Corners:
    """The old dial's corners under a grid."""
    return _within(grid, ((1.0, 1.0), (0.5, 0.75), _lowest(grid)))


def attention_first(grid: ActionGrid) -> Corners:
    """The paper's axes one after the other."""
    return _within(grid, ((1.0, 1.0), (0.1, 1.0), (0.1, _lowest(grid)[1])))


def place_on(
    corners: Corners, bits: float, target: float, reading: Callable[[Budget], float]
) -> Budget:
    """The budget on a path that reads as much as wanted; an end of the path where none does.

    Args:
        bits: mean bits of the MLP activations.
        target: in the unit of ``reading``.
        reading: what steps at a budget read; it never rises from corner to corner.
    """
    low, high = 0.0, float(len(corners) - 1)  # target lies between their readings
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if reading(_at(corners, middle, bits)) > target else (low, middle)
        )
    return _at(corners, high, bits)


def _at(corners: Corners, place: float, bits: float) -> Budget:
    first = min(int(place), len(corners) - 2)
    rest = place - first
    pairs = zip(corners[first], corners[first + 1], strict=True)
    keep, ratio = (a + (b - a) * rest for a, b in pairs)
    return Budget(keep, ratio, bits)


def _lowest(grid: ActionGrid) -> tuple[float, float]:
    return grid.keep_fractions[0], grid.channel_keep_ratios[0]


def _within(grid: ActionGrid, corners: Corners) -> Corners:
    keep, ratio = _lowest(grid)
    return tuple((max(corner[0], keep), max(corner[1], ratio)) for corner in corners)
