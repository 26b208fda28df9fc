"""The MLP of one decode step, pruned and quantised."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.activation_quantisation import fake_quantise
from kernels.gated_mlp import MlpPlan, MlpWeights, activated, fused_gated_mlp
from kernels.residual import Residual, add_and_norm
from sol_core.models.spec import Activation
from sol_core.models.step.plan import StepPlan
from sol_core.models.weights import LayerWeights


def step_mlp(
    layer: LayerWeights,
    residual: Residual,  # the stream as it enters the MLP, R rows
    plan: StepPlan,
    activation: Activation,
    dtype: torch.dtype,  # of what dense rows multiply with the weights
) -> tuple[Tensor, Tensor]:
    """The MLP of a step, each row by its own action."""
    pruner = plan.shape.mechanisms.pruner
    at_input = plan.shape.mechanisms.quant_site == "mlp_input"
    if plan.channels_kept is not None and pruner.fused:
        fused = fused_gated_mlp(
            residual,
            MlpWeights(
                layer.gate_up.weight,
                layer.down.weight,
                layer.gate_up.bias,
                layer.down.bias,
                activation,
                layer.down_norms,
            ),
            MlpPlan(plan.channels_kept, plan.bit_widths, at_input, plan.inner_kept),
        )
        if fused is not None:
            return fused
    dense = plan.channels_kept is None and plan.bit_widths is None
    hidden, normed = add_and_norm(residual, dtype if dense else torch.float32)
    if plan.channels_kept is not None:
        normed = pruner.keep_input(normed, plan.channels_kept)
    if plan.bit_widths is not None and at_input:
        normed = fake_quantise(normed, plan.bit_widths)
    inner = _pruned(layer, activated(layer.gate_up(normed), activation), plan)
    if plan.bit_widths is not None and at_input:
        inner = fake_quantise(inner, plan.bit_widths)
    output = layer.down(inner)
    if plan.bit_widths is not None and not at_input:
        output = fake_quantise(output, plan.bit_widths)
    return hidden, output


def _pruned(layer: LayerWeights, inner: Tensor, plan: StepPlan) -> Tensor:
    """Inner activations without those that would add least to the output, where they are pruned."""
    keep_inner = plan.shape.mechanisms.pruner.keep_inner
    if plan.inner_kept is None or layer.down_norms is None or keep_inner is None:
        return inner
    return keep_inner(inner, layer.down_norms, plan.inner_kept)
