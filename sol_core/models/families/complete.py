"""A Llama's config.json that needs no class of transformers to be understood."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

# What is read of a Llama's config.json, and as which type.
_LLAMA: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "max_position_embeddings",
        ),
        (int,),
    ),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias", "mlp_bias"), (bool,)),
    "rms_norm_eps": (float,),
    "hidden_act": (str,),
    "eos_token_id": (int, list),
}
# Ropes of which nothing is filled in from elsewhere, and the names from which it would be.
_PLAIN_ROPES = ("default", "linear", "llama3")
_ELSEWHERE = ("original_max_position_embeddings", "partial_rotary_factor", "rope_scaling")


def complete_config(record: Mapping[str, Any]) -> Any:
    """Return a Llama's config.json as a config if it says everything that is read here, else None.

    For another family, and where anything is missing or unusual, transformers' own class has to
    fill in and check; importing it takes longer (1.4 s) than reading the default model's weights.
    """
    rope = record.get("rope_parameters")
    complete = record.get("model_type") == "llama" and all(
        type(record.get(name)) in kinds for name, kinds in _LLAMA.items()
    )
    if not complete or not isinstance(rope, dict) or any(record.get(n) for n in _ELSEWHERE):
        return None
    plain = rope.get("rope_type") in _PLAIN_ROPES and type(rope.get("rope_theta")) in (int, float)
    return SimpleNamespace(**record) if plain else None
