"""The parts of a model around its matrices, alike in prefills and steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kernels.page_attention import soft_cap
from kernels.rms_norm import rms_norm
from kernels.rotary import rotate_first_heads

if TYPE_CHECKING:
    from torch import Tensor

    from sol_core.models.spec import ModelSpec
    from sol_core.models.weights import LayerWeights


def final_logits(logits: Tensor, spec: ModelSpec) -> Tensor:
    """Logits of the model from the products of its head, [..., V] fp32: scaled and capped."""
    if spec.logit_scale is not None:
        logits = logits * spec.logit_scale
    return logits if spec.logit_cap is None else soft_cap(logits, spec.logit_cap)


def normalised(hidden: Tensor, weight: Tensor | None, spec: ModelSpec) -> Tensor:
    """[..., C] fp32 after its norm; unchanged where there is none."""
    return hidden if weight is None else rms_norm(hidden, weight, spec.norm_eps)


def with_update(hidden: Tensor, update: Tensor, norm: Tensor | None, spec: ModelSpec) -> Tensor:
    """The residual stream [..., C] fp32 with what attention or MLP adds, after its norm if any."""
    return hidden + (update if norm is None else rms_norm(update.float(), norm, spec.norm_eps))


def heads_of(
    spec: ModelSpec, layer: LayerWeights, normed: Tensor, cosine: Tensor, sine: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """[..., C] → rotated query [..., H, D], rotated key and value [..., Hkv, D], fp32."""
    num_rotated = spec.num_heads + spec.num_kv_heads
    heads = layer.query_key_value(normed).float()
    heads = heads.unflatten(-1, (num_rotated + spec.num_kv_heads, spec.head_size))
    value = heads[..., num_rotated:, :]
    if layer.query_norm is not None and layer.key_norm is not None:
        query, key, _ = heads.split((spec.num_heads, spec.num_kv_heads, spec.num_kv_heads), -2)
        query, key = _norm(query, layer.query_norm, spec), _norm(key, layer.key_norm, spec)
        heads = torch.cat((query, key), -2)
    rotated = rotate_first_heads(heads, num_rotated, cosine, sine)
    query, key = rotated.split((spec.num_heads, spec.num_kv_heads), -2)
    return query, key, value


def _norm(heads: Tensor, weight: Tensor, spec: ModelSpec) -> Tensor:
    """[..., N, D] after a norm of each head, weight [D], or of all of them at once, [N · D]."""
    if weight.shape[0] == spec.head_size:
        return rms_norm(heads, weight, spec.norm_eps)
    whole = rms_norm(heads.flatten(-2), weight, spec.norm_eps)
    split: Tensor = whole.unflatten(-1, heads.shape[-2:])
    return split
