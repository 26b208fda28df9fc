"""The gated MLP of a decode step, pruned and quantised, as one operation; and its activation."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kernels.gated_mlp import reference
from kernels.gated_mlp.reference import MlpPlan, MlpWeights
from kernels.gated_mlp.triton_dispatch import (
    activate_with_triton,
    fits_activation,
    multiply_with_triton,
    triton_fits,
)
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
    if plan.channels_kept is None or not triton_fits(residual, weights, plan):
        return None
    return multiply_with_triton(residual, weights, plan)


def activated(gate_up: Tensor, activation: Literal["silu", "gelu_tanh"]) -> Tensor:
    """As ``reference.activated``; a decode step's rows in one kernel on CUDA."""
    if fits_activation(gate_up):
        return activate_with_triton(gate_up, activation)
    return reference.activated(gate_up, activation)
