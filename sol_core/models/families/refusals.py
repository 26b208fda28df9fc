"""Words for what the decoder lacks, from config.json alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sol_core.errors import UnsupportedModelError


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
    """Raise for a family that is not supported, or a feature that none of the supported has.

    Args:
        record: config.json, or the attributes of a config.
        supported: ``model_type`` of the families.
    Raises: UnsupportedModelError naming what is asked for, and what is supported.
    """
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
