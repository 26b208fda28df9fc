"""The gated MLP of a decode step, pruned and quantised, as one operation; and its activation."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kernels.gated_mlp import reference
from kernels.gated_mlp.reference import MlpPlan, MlpWeights
from kernels.gated_mlp.triton_dispatch import (
    MAX_INNER,
    activate_with_triton,
    check_mlp,
    multiply_with_triton,
)
from kernels.gpu.triton_support import fits, fits_rows
from kernels.residual import Residual

__all__ = ["MlpPlan", "MlpWeights", "activated", "fused_gated_mlp"]


def fused_gated_mlp(
    residual: Residual, weights: MlpWeights, plan: MlpPlan
) -> tuple[Tensor, Tensor] | None:
    """The stream as it enters the MLP and ``reference.gated_mlp`` of it, in fused kernels; None
    where there are none for this.

    A caller that gets None computes the steps one by one, with the operations that the
    device has. Rows that keep every channel are left to those too: a dense product is
    what a vendor's library does best.
    """
    pruned = plan.channels_kept is not None
    if pruned and fits("gated_mlp", residual.hidden, lambda: check_mlp(residual, weights, plan)):
        return multiply_with_triton(residual, weights, plan)
    return None


def activated(gate_up: Tensor, activation: Literal["silu", "gelu_tanh"]) -> Tensor:
    """As ``reference.activated``; a decode step's rows in one kernel on CUDA."""
    if gate_up.dim() == 2 and fits_rows("gated_mlp", gate_up, 2 * MAX_INNER):
        return activate_with_triton(gate_up, activation)
    return reference.activated(gate_up, activation)
