"""How a family's checkpoints store a layer: tensor names, and the order of a head's channels.

The kernels rotate channel d of a head of D with d + D/2, and need D to be a multiple of eight.
Channels that are not rotated become pairs with angle 0, and zeros are added. No score changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sol_core.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class LayerNames:
    """Tensor names in a layer; None for a norm that the family lacks."""

    attention_norm: str | None = "input_layernorm"
    attention_output_norm: str | None = None
    mlp_norm: str | None = "post_attention_layernorm"
    mlp_output_norm: str | None = None
    query_key_value: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    gate_up: tuple[str, ...] = ("gate_proj", "up_proj")
    query_key_norms: Literal["head", "all"] | None = None


_LLAMA = LayerNames()
_GEMMA2 = LayerNames(
    attention_output_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_output_norm="post_feedforward_layernorm",
)
_OTHERS = {
    "gemma2": _GEMMA2,
    "gemma3_text": replace(_GEMMA2, query_key_norms="head"),
    "olmo2": LayerNames(
        attention_norm=None,
        attention_output_norm="post_attention_layernorm",
        mlp_norm=None,
        mlp_output_norm="post_feedforward_layernorm",
        query_key_norms="all",
    ),
    "phi3": LayerNames(query_key_value=("qkv_proj",), gate_up=("gate_up_proj",)),
    "qwen3": LayerNames(query_key_norms="head"),
}


def layer_names(family: str) -> LayerNames:
    return _OTHERS.get(family, _LLAMA)


def head_channels(spec: ModelSpec) -> Tensor | None:
    """Return the stored channel of each head channel, [D] int64; −1 is an added zero."""
    stored, half = spec.stored_head_size or spec.head_size, spec.head_size // 2
    rotated = next((rope.rotated for rope in spec.ropes if rope.rotated), stored)
    if stored == rotated == spec.head_size:
        return None
    pairs, others = rotated // 2, (stored - rotated) // 2
    added = torch.full((half - pairs - others,), -1)
    channels = torch.arange(stored)
    first, second, rest = channels[:pairs], channels[pairs:rotated], channels[rotated:]
    return torch.cat((first, rest[:others], added, second, rest[others:], added))


def spread_heads(matrix: Tensor, channels: Tensor, stored: int, dim: int) -> Tensor:
    """Reorder the heads along one axis to the decoder's channel order."""
    heads = matrix.unflatten(dim, (-1, stored))
    zero = torch.zeros_like(heads.narrow(dim + 1, 0, 1))
    which = torch.where(channels < 0, stored, channels)
    return torch.cat((heads, zero), dim + 1).index_select(dim + 1, which).flatten(dim, dim + 1)
