"""A layer's operations around its matrices, and the MLP of a decode step."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.activation_quantisation import fake_quantise
from kernels.gated_mlp import MlpPlan, MlpWeights, activated, fused_gated_mlp
from kernels.mlp_pruners import MlpPruner
from kernels.page_attention import soft_cap
from kernels.residual import Residual, add_and_norm, rms_norm
from sol_core.models.spec import Activation, ModelSpec
from sol_core.models.weights import LayerWeights


def final_logits(logits: Tensor, spec: ModelSpec) -> Tensor:
    """Scale and cap the head's products [..., V] fp32."""
    if spec.logit_scale is not None:
        logits = logits * spec.logit_scale
    return logits if spec.logit_cap is None else soft_cap(logits, spec.logit_cap)


def normed_update(update: Tensor, norm: Tensor | None, spec: ModelSpec) -> Tensor:
    """Apply the output norm, if any, to what attention or MLP adds [..., C]."""
    return update if norm is None else rms_norm(update.float(), norm, spec.norm_eps)


def heads_of(spec: ModelSpec, layer: LayerWeights, normed: Tensor) -> Tensor:
    """Project [..., C] to queries, keys and values [..., H + 2·Hkv, D], before rotation."""
    sizes = spec.num_heads, spec.num_kv_heads, spec.num_kv_heads
    joined = layer.query_key_value(normed)
    heads: Tensor = joined.unflatten(-1, (sum(sizes), spec.head_size))
    if layer.query_norm is None or layer.key_norm is None:
        return heads
    query, key, value = heads.float().split(sizes, -2)
    query, key = _norm(query, layer.query_norm, spec), _norm(key, layer.key_norm, spec)
    return torch.cat((query, key, value), -2)


def _norm(heads: Tensor, weight: Tensor, spec: ModelSpec) -> Tensor:
    """Norm [..., N, D] per head, weight [D], or over all heads, weight [N · D]."""
    if weight.shape[0] == spec.head_size:
        return rms_norm(heads, weight, spec.norm_eps)
    whole = rms_norm(heads.flatten(-2), weight, spec.norm_eps)
    split: Tensor = whole.unflatten(-1, heads.shape[-2:])
    return split


def step_mlp(
    layer: LayerWeights,
    residual: Residual,  # the stream before the MLP, R rows
    plan: MlpPlan,
    pruner: MlpPruner,
    activation: Activation,
    dtype: torch.dtype,  # of dense rows' inputs
) -> tuple[Tensor, Tensor]:
    gate_up, down, kept, bits = layer.gate_up, layer.down, plan.channels_kept, plan.bit_widths
    dense = kept is None and bits is None
    parts = gate_up.weight, down.weight, gate_up.bias, down.bias, activation, layer.down_norms
    if dense or (kept is not None and pruner.fused):
        fused = fused_gated_mlp(residual, MlpWeights(*parts), plan)
        if fused is not None:
            return fused
    hidden, normed = add_and_norm(residual, dtype if dense else torch.float32)
    if kept is not None:
        normed = pruner.keep_input(normed, kept)
    if bits is not None and plan.quantise_inputs:
        normed = fake_quantise(normed, bits, plan.quant_block)
    inner = activated(gate_up(normed), activation)
    if plan.inner_kept is not None and pruner.keep_inner and layer.down_norms is not None:
        inner = pruner.keep_inner(inner, layer.down_norms, plan.inner_kept)
    if bits is not None and plan.quantise_inputs:
        inner = fake_quantise(inner, bits, plan.quant_block)
    output = down(inner)
    if bits is not None and not plan.quantise_inputs:
        output = fake_quantise(output, bits, plan.quant_block)
    return hidden, output
