"""The parts of a model around its matrices, alike in prefills and steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kernels.page_attention import soft_cap
from kernels.rms_norm import rms_norm

if TYPE_CHECKING:
    from torch import Tensor

    from sol_core.models.spec import ModelSpec
    from sol_core.models.weights import LayerWeights


def final_logits(logits: Tensor, spec: ModelSpec) -> Tensor:
    """Logits of the model from the products of its head, [..., V] fp32: scaled and capped."""
    if spec.logit_scale is not None:
        logits = logits * spec.logit_scale
    return logits if spec.logit_cap is None else soft_cap(logits, spec.logit_cap)


def normed_update(update: Tensor, norm: Tensor | None, spec: ModelSpec) -> Tensor:
    """The numbers [..., C] that attention or MLP adds, after its own norm if any."""
    return update if norm is None else rms_norm(update.float(), norm, spec.norm_eps)


def heads_of(spec: ModelSpec, layer: LayerWeights, normed: Tensor) -> Tensor:
    """[..., C] → queries, keys and values [..., H + 2·Hkv, D] of each token, before rotation."""
    sizes = spec.num_heads, spec.num_kv_heads, spec.num_kv_heads
    joined = layer.query_key_value(normed)
    heads: Tensor = joined.unflatten(-1, (sum(sizes), spec.head_size))
    if layer.query_norm is None or layer.key_norm is None:
        return heads
    query, key, value = heads.float().split(sizes, -2)
    query, key = _norm(query, layer.query_norm, spec), _norm(key, layer.key_norm, spec)
    return torch.cat((query, key, value), -2)


def _norm(heads: Tensor, weight: Tensor, spec: ModelSpec) -> Tensor:
    """[..., N, D] after a norm of each head, weight [D], or of all of them at once, [N · D]."""
    if weight.shape[0] == spec.head_size:
        return rms_norm(heads, weight, spec.norm_eps)
    whole = rms_norm(heads.flatten(-2), weight, spec.norm_eps)
    split: Tensor = whole.unflatten(-1, heads.shape[-2:])
    return split
