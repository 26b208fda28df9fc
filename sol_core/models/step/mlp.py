"""The MLP of one decode step, pruned and quantised."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kernels.activation_quantisation import fake_quantise
from kernels.gated_mlp import MlpPlan, MlpWeights, fused_gated_mlp
from sol_core.models.spec import Activation
from sol_core.models.step.plan import StepPlan
from sol_core.models.weights import LayerWeights


def gated(gate_up: Tensor, activation: Activation) -> Tensor:
    """[..., 2·I], gate first → activation(gate) · up [..., I]."""
    gate, up = gate_up.chunk(2, dim=-1)
    if activation == "silu":
        return F.silu(gate) * up
    return F.gelu(gate, approximate="tanh") * up


def step_mlp(layer: LayerWeights, normed: Tensor, plan: StepPlan, activation: Activation) -> Tensor:
    """The MLP of normalised hidden states [R, C] fp32 → [R, C], each row by its own action."""
    pruner = plan.shape.mechanisms.pruner
    at_input = plan.shape.mechanisms.quant_site == "mlp_input"
    if plan.channels_kept is not None and pruner.fused:
        fused = fused_gated_mlp(
            normed,
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
    if plan.channels_kept is not None:
        normed = pruner.keep_input(normed, plan.channels_kept)
    if plan.bit_widths is not None and at_input:
        normed = fake_quantise(normed, plan.bit_widths)
    inner = _pruned(layer, gated(layer.gate_up(normed), activation), plan)
    if plan.bit_widths is not None and at_input:
        inner = fake_quantise(inner, plan.bit_widths)
    output = layer.down(inner)
    if plan.bit_widths is not None and not at_input:
        output = fake_quantise(output, plan.bit_widths)
    return output


def _pruned(layer: LayerWeights, inner: Tensor, plan: StepPlan) -> Tensor:
    """Inner activations without those that would add least to the output, where they are pruned."""
    keep_inner = plan.shape.mechanisms.pruner.keep_inner
    if plan.inner_kept is None or layer.down_norms is None or keep_inner is None:
        return inner
    return keep_inner(inner, layer.down_norms, plan.inner_kept)
