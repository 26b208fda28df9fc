"""A layer's tensors by the names that a family's checkpoints give them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class LayerNames:
    """Names in a layer, None for a norm that there is not.

    Attributes:
        attention_norm, mlp_norm: of the norms before the two.
        attention_output_norm, mlp_output_norm: of the norms after them, before the residual.
        query_key_value, gate_up: of the matrices that are read side by side, in this order.
        query_key_norms: norms of queries and keys, of each "head" or of "all" of a token at once.
    """

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
    """Names of a family of transformers; Llama's where it is not known to have others."""
    return _OTHERS.get(family, _LLAMA)
