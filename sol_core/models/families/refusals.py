"""Judgement of a config.json before it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from sol_core.errors import ModelLoadError, UnsupportedModelError

_INPUT_BIASED = frozenset(f"self_attn.{name}_proj" for name in "qkv")
_ATTENTION = _INPUT_BIASED | {"self_attn.o_proj"}
_MLP = frozenset(f"mlp.{name}_proj" for name in ("gate", "up", "down"))


def _any_of(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda record: any(record.get(name) for name in names)


def _experts(record: Mapping[str, Any]) -> bool:
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    counts = (record.get(name) for name in names)
    return any(isinstance(count, int) and count > 1 for count in counts)


# Of any family; and what only explains why one is not supported.
_LACKING: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "an encoder and a decoder": _any_of("is_encoder_decoder"),
    "attention in both directions": _any_of("use_bidirectional_attention"),
    "cross-attention": _any_of(
        "add_cross_attention", "cross_attention_layers", "cross_attention_hidden_size"
    ),
    "a mixture of experts": _experts,
    "ALiBi's position biases": lambda record: (
        record.get("alibi") is True or record.get("position_embedding_type") == "alibi"
    ),
}
_OTHERWISE = _LACKING | {
    "a state space": _any_of("ssm_cfg", "state_size", "mamba_d_state", "ssm_state_size"),
    "learned positions": lambda record: (
        "n_positions" in record or record.get("position_embedding_type") == "absolute"
    ),
    "images or sound": _any_of("vision_config", "audio_config"),
}


def refuse_family(record: Mapping[str, Any], supported: Sequence[str]) -> None:
    """Raise for a family that is not supported, or a feature that none of the supported has."""
    family = record.get("model_type")
    known = _LACKING if family in supported else _OTHERWISE
    lacking = " and ".join(words for words, asks in known.items() if asks(record))
    listed = f"supported: {', '.join(supported)}"
    if family not in supported:
        kind = f" ({lacking})" if lacking else ""
        raise UnsupportedModelError(f"model family {family!r} is not supported{kind}; {listed}")
    if lacking:
        raise UnsupportedModelError(
            f"config.json asks for {lacking}, which is not supported; {listed}, as decoders of text"
        )


def refuse_denied_biases(config: Any, names: Iterable[str]) -> None:
    """Raises: ModelLoadError for a bias that transformers would leave out."""
    allowed = _biased_matrices(config)
    for name in sorted(names):
        matrix = name.removesuffix(".bias")
        if matrix != name and ".".join(matrix.split(".")[-2:]) not in allowed:
            raise ModelLoadError(
                f"the weights hold {name!r}, but config.json says that there is no such bias "
                "(attention_bias, mlp_bias): correct the one or the other"
            )


def _biased_matrices(config: Any) -> frozenset[str]:
    """Matrices of a layer that have a bias, as the family's code in transformers reads a config."""
    if config.model_type == "qwen2":
        return _INPUT_BIASED
    attention, mlp = (getattr(config, name, False) for name in ("attention_bias", "mlp_bias"))
    return (_ATTENTION if attention else frozenset()) | (_MLP if mlp else frozenset())


# Fields that are read of a Llama's config.json, and their types.
_COUNTS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads head_dim max_position_embeddings"
)
_LLAMA: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_COUNTS.split(), (int,)),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias", "mlp_bias"), (bool,)),
    "rms_norm_eps": (float,),
    "hidden_act": (str,),
    "eos_token_id": (int, list),
}
# Ropes of which nothing is filled in from elsewhere, and the names from which it would be.
_PLAIN_ROPES = ("default", "linear", "llama3")
_ELSEWHERE = ("original_max_position_embeddings", "partial_rotary_factor", "rope_scaling")


def complete_config(record: Mapping[str, Any]) -> Any:
    """A Llama's config.json that says all that is read here, else None (transformers: 1.4 s)."""
    rope = record.get("rope_parameters")
    complete = record.get("model_type") == "llama" and all(
        type(record.get(name)) in kinds for name, kinds in _LLAMA.items()
    )
    if not complete or not isinstance(rope, dict) or any(record.get(n) for n in _ELSEWHERE):
        return None
    plain = rope.get("rope_type") in _PLAIN_ROPES and type(rope.get("rope_theta")) in (int, float)
    return SimpleNamespace(**record) if plain else None
