"""bf16 weights rearranged once for oneDNN, which otherwise rearranges them in every product.

For a batch of rows that is a third of the product's time (``docs/decisions.md``). The
operators are those that torch's own compiler uses for frozen weights; where this build of
torch lacks them, or the CPU lacks bf16, nothing is packed.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


def pack_weight(weight: Tensor, num_rows: int) -> Tensor | None:
    """A copy of ``weight`` for ``packed_product``, or None where packing is not possible.

    Args:
        weight: [in, out].
        num_rows: how many rows the products will have, a hint.
    Returns: opaque; about as large as the weight.
    """
    fits = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return _rearranged(weight, num_rows) if fits and _packs() else None


@cache
def _packs() -> bool:
    """Return whether this CPU and this torch can pack; tried once, a failure logged once."""
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        probe = torch.ones(4, 4, dtype=torch.bfloat16)
        packed_product(probe, _rearranged(probe, 4), None)
    except (AttributeError, RuntimeError) as error:
        _log.warning("weights are not packed, products of many rows take longer: %s", error)
        return False
    return True


def _rearranged(weight: Tensor, num_rows: int) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.t(), num_rows)
    return packed


def packed_product(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """``inputs @ weight + bias`` in bf16: inputs [..., in], any float dtype → [..., out]."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        inputs.to(torch.bfloat16), packed, bias, "none", [], ""
    )
    return product
