"""The form in which a way to prune the MLP is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Split = tuple[tuple[float, float], ...]


def largest(normed: Tensor, kept: Tensor) -> Tensor:
    """The channels of largest magnitude, as the fused kernels choose them.

    Args:
        normed: [R, C], the MLP's input.
        kept: [R], channels that each row keeps.
    Returns: [R, C], the others zeroed.
    """
    from kernels.channel_pruning import keep_largest_channels

    return keep_largest_channels(normed, kept)


def heaviest(inner: Tensor, norms: Tensor, kept: Tensor) -> Tensor:
    """The channels that add most to the output, as the fused kernels choose them.

    Args:
        inner: [R, I], what down multiplies.
        norms: [I], of down's rows.
        kept: [R], channels that each row keeps.
    Returns: [R, I], the others zeroed.
    """
    from kernels.channel_pruning import keep_heaviest_channels

    return keep_heaviest_channels(inner, norms, kept)


@dataclass(frozen=True, slots=True, eq=False)
class MlpPruner:
    """A way to prune the MLP's input and the channels between its projections.

    FLOPs and bytes follow from the shares: of the three matrices, gate and up have a row for
    each input channel, down one for each inner channel.

    Attributes:
        name: in grids, policies and results.
        label, meaning: in forms; the meaning goes on a sentence.
        unit: of which the action's ratio is a share.
        shares: of a ratio below 1 and the grid's split → shares of the input channels and of
            the inner channels that are kept, each above 0 and at most 1.
        ratio: that reads a share of the MLP's bytes, the inverse.
        split: knots that a grid has unless it brings its own; () where it takes none.
        keep_input: of [R, C] and how many channels each row keeps [R] → the others zeroed.
        keep_inner: of [R, I], norms of down's rows [I] and how many [R] → the others zeroed; None
            where the inner share is always 1.
        fused: whether kernels that do a whole MLP choose the same channels.
    """

    name: str
    label: str
    meaning: str
    unit: str
    shares: Callable[[float, Split], tuple[float, float]]
    ratio: Callable[[float], float]
    split: Split = ()
    keep_input: Callable[[Tensor, Tensor], Tensor] = largest
    keep_inner: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    fused: bool = False
