"""The MLP of one decode step, pruned and quantised, in floats or in whole numbers (METHOD 2, 3)."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.activation_quantisation import fake_quantise
from kernels.gated_mlp import MlpPlan, MlpWeights, fused_gated_mlp
from kernels.integer_linear import integer_linear
from sol_core.models.spec import Activation
from sol_core.models.step.plan import StepPlan
from sol_core.models.weights import IntegerMlp, LayerWeights


def gated(gate_up: Tensor, activation: Activation) -> Tensor:
    """[..., 2·I], gate first → activation(gate) · up [..., I]."""
    gate, up = gate_up.chunk(2, dim=-1)
    if activation == "silu":
        return F.silu(gate) * up
    return F.gelu(gate, approximate="tanh") * up


def step_mlp(layer: LayerWeights, normed: Tensor, plan: StepPlan, activation: Activation) -> Tensor:
    """The MLP of normalised hidden states [R, C] fp32 → [R, C], each row by its own action.

    Rows that the plan gives to the integer path are computed there, the others in floats.
    """
    if plan.integer_rows is None or layer.integer_mlp is None:
        return _float_mlp(layer, normed, plan, activation)
    integer_rows, float_rows = plan.integer_rows
    mine = _rows_of(plan, integer_rows)
    output = _integer_mlp(layer, layer.integer_mlp, normed[integer_rows], mine, activation)
    if not len(float_rows):
        return output
    others = _float_mlp(layer, normed[float_rows], _rows_of(plan, float_rows), activation)
    joined = torch.empty_like(normed)
    joined[integer_rows], joined[float_rows] = output, others.float()
    return joined


def _rows_of(plan: StepPlan, rows: Tensor) -> StepPlan:
    """Return the plan for the MLP of some rows."""
    kept, inner, bits = plan.channels_kept, plan.inner_kept, plan.bit_widths
    return dataclasses.replace(
        plan,
        channels_kept=None if kept is None else kept[rows],
        inner_kept=None if inner is None else inner[rows],
        bit_widths=None if bits is None else bits[rows],
    )


def _integer_mlp(
    layer: LayerWeights,
    integers: IntegerMlp,
    normed: Tensor,
    plan: StepPlan,
    activation: Activation,
) -> Tensor:
    bits = plan.bit_widths
    assert bits is not None  # rows without bits are not the integer path's
    if plan.channels_kept is not None:
        normed = plan.shape.mechanisms.pruner.keep_input(normed, plan.channels_kept)
    inner = integer_linear(normed, bits, integers.gate_up)
    if layer.gate_up.bias is not None:
        inner = inner + layer.gate_up.bias
    inner = _pruned(layer, gated(inner, activation), plan)
    output = integer_linear(inner, bits, integers.down)
    return output if layer.down.bias is None else output + layer.down.bias


def _pruned(layer: LayerWeights, inner: Tensor, plan: StepPlan) -> Tensor:
    """Inner activations without those that would add least to the output, where they are pruned."""
    keep_inner = plan.shape.mechanisms.pruner.keep_inner
    if plan.inner_kept is None or layer.down_norms is None or keep_inner is None:
        return inner
    return keep_inner(inner, layer.down_norms, plan.inner_kept)


def _float_mlp(
    layer: LayerWeights, normed: Tensor, plan: StepPlan, activation: Activation
) -> Tensor:
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
