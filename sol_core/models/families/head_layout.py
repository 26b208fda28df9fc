"""A head's channels in the order in which the decoder rotates them.

Its kernels rotate channel d of a head of D with channel d + D/2, all of them, and take D in whole
eights. Where a checkpoint rotates only the first channels of a head, or D is no multiple of 8,
the others become pairs that are turned by no angle, and zeros are added. Queries, keys and values
change alike, so no score and no output changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from sol_core.models.spec import ModelSpec


def head_channels(spec: ModelSpec) -> Tensor | None:
    """The stored channel of each channel of a head, [D] int64; −1 is a zero that is added."""
    stored, half = spec.stored_head_size or spec.head_size, spec.head_size // 2
    rotated = next((rope.rotated for rope in spec.ropes if rope.rotated), stored)
    if stored == rotated == spec.head_size:
        return None
    pairs, others = rotated // 2, (stored - rotated) // 2
    added = torch.full((half - pairs - others,), -1)
    channels = torch.arange(stored)
    first, second, rest = channels[:pairs], channels[pairs:rotated], channels[rotated:]
    return torch.cat((first, rest[:others], added, second, rest[others:], added))


def spread_heads(matrix: Tensor, channels: Tensor, stored: int, dim: int) -> Tensor:
    """The heads of one axis in the decoder's order.

    Args:
        channels: [D] int64, as ``head_channels`` returns them.
    """
    heads = matrix.unflatten(dim, (-1, stored))
    zero = torch.zeros_like(heads.narrow(dim + 1, 0, 1))
    which = torch.where(channels < 0, stored, channels)
    return torch.cat((heads, zero), dim + 1).index_select(dim + 1, which).flatten(dim, dim + 1)
