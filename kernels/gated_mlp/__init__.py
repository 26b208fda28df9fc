"""The pruned, quantised gated MLP of a decode step as one operation."""

from __future__ import annotations

from torch import Tensor

from kernels.gated_mlp.reference import MlpPlan, MlpWeights
from kernels.gated_mlp.triton_dispatch import multiply_with_triton, triton_fits

__all__ = ["MlpPlan", "MlpWeights", "fused_gated_mlp"]


def fused_gated_mlp(hidden: Tensor, weights: MlpWeights, plan: MlpPlan) -> Tensor | None:
    """``reference.gated_mlp`` in fused kernels, or None where there are none for this.

    A caller that gets None computes the steps one by one, with the operations that the
    device has. Rows that keep every channel are left to those too: a dense product is
    what a vendor's library does best.
    """
    if plan.channels_kept is None or not triton_fits(hidden, weights, plan):
        return None
    return multiply_with_triton(hidden, weights, plan)
