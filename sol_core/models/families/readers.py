"""Reads a family's transformers config as a ``ModelSpec``, and refuses unsupported models.

If a rotary embedding changes with the text's length, the context ends before that length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sol_core.errors import ModelLoadError, UnsupportedModelError
from sol_core.models.families.layer_names import layer_names
from sol_core.models.spec import Activation, ModelSpec, RopeSpec

_ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_LAYERS = ("full_attention", "sliding_attention")
_WHOLE = 8  # head sizes are rounded up to a multiple of it
_KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
_PARTIAL = ("phi3",)  # families whose code in transformers rotates a part of a head


def spec_from_config(config: Any) -> ModelSpec:
    """Make a config's spec. Raises: UnsupportedModelError for unsupported features."""
    refuse_family({**vars(config), "model_type": config.model_type}, SUPPORTED_FAMILIES)
    return _READERS[config.model_type](config)


def _common(config: Any, **differences: Any) -> ModelSpec:
    """Make Llama's spec with differences, which may name one of transformers' activations."""
    act = differences.pop("activation", None) or config.hidden_act
    if act not in _ACTIVATIONS:
        raise UnsupportedModelError(
            f"MLP activation {act!r} is not supported; supported: {', '.join(_ACTIVATIONS)}"
        )
    if config.num_attention_heads % config.num_key_value_heads:
        raise UnsupportedModelError(
            f"{config.num_attention_heads} query heads cannot share "
            f"{config.num_key_value_heads} key-value heads evenly"
        )
    stored, used = _head_sizes(config)
    fields: dict[str, Any] = {
        "family": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "head_size": used,
        "max_positions": config.max_position_embeddings,
        "norm_eps": config.rms_norm_eps,
        "activation": _ACTIVATIONS[act],
        "attention_scale": stored**-0.5,
        "windows": (None,) * config.num_hidden_layers,
        "tied_head": bool(config.tie_word_embeddings),
        "stored_head_size": None if used == stored else stored,
    }
    if "ropes" not in differences:
        rope = config.rope_parameters
        fields["ropes"] = (_rope_spec(rope, config, stored, used),) * config.num_hidden_layers
        fields["max_positions"] = _longest_text(rope, config.max_position_embeddings)
    return ModelSpec(**fields | differences)


def _head_sizes(config: Any) -> tuple[int, int]:
    """Return a head's channels in the checkpoint and in the decoder."""
    stored = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    used = -(-stored // _WHOLE) * _WHOLE
    if used != stored and layer_names(config.model_type).query_key_norms:
        raise UnsupportedModelError(
            f"heads of {stored} channels with norms of queries and keys are not supported: "
            f"multiples of {_WHOLE} are"
        )
    return stored, used


def _read_mistral(config: Any) -> ModelSpec:
    return _common(config, windows=(config.sliding_window or None,) * config.num_hidden_layers)


def _read_qwen(config: Any) -> ModelSpec:
    return _common(config, windows=_windows(config))


def _read_granite(config: Any) -> ModelSpec:
    residual = config.residual_multiplier
    for name in ("residual_multiplier", "embedding_multiplier", "logits_scaling"):
        if not getattr(config, name) > 0:
            raise UnsupportedModelError(
                f"{name} = {getattr(config, name)} is not supported: it must be above 0"
            )
    return _common(
        config,
        attention_scale=config.attention_multiplier,
        norm_eps=config.rms_norm_eps / residual**2,
        stream_scale=config.embedding_multiplier / residual,
        logit_scale=1 / config.logits_scaling,
    )


def _read_smollm3(config: Any) -> ModelSpec:
    plain = _common(config, windows=_windows(config))
    none, rotates = RopeSpec(plain.ropes[0].theta, "none"), config.no_rope_layers
    ropes = (rope if does else none for rope, does in zip(plain.ropes, rotates, strict=False))
    return replace(plain, ropes=tuple(ropes))


def _read_gemma2(config: Any, **differences: Any) -> ModelSpec:
    return _common(
        config,
        activation=config.hidden_activation,
        windows=_windows(config),
        attention_scale=config.query_pre_attn_scalar**-0.5,
        norm_offset=1.0,
        embedding_scale=config.hidden_size**0.5,
        attention_cap=config.attn_logit_softcapping,
        logit_cap=config.final_logit_softcapping,
        **differences,
    )


def _read_gemma3(config: Any) -> ModelSpec:
    sizes, parameters = _head_sizes(config), config.rope_parameters
    ropes = {kind: _rope_spec(values, config, *sizes) for kind, values in parameters.items()}
    return _read_gemma2(
        config,
        ropes=tuple(ropes[kind] for kind in config.layer_types),
        max_positions=min(
            _longest_text(values, config.max_position_embeddings) for values in parameters.values()
        ),
    )


def _windows(config: Any) -> tuple[int | None, ...]:
    for kind in config.layer_types:
        if kind not in _LAYERS:
            raise UnsupportedModelError(
                f"layers of type {kind!r} are not supported; supported: {', '.join(_LAYERS)}"
            )
    return tuple(
        config.sliding_window if kind == "sliding_attention" else None
        for kind in config.layer_types
    )


def _rope_spec(values: Mapping[str, Any], config: Any, stored: int, used: int) -> RopeSpec:
    """Read one of ``rope_parameters``; heads of ``stored`` channels become ``used`` ones."""
    rotated = values.get("partial_rotary_factor")
    if rotated not in (None, 1) and config.model_type not in _PARTIAL:
        raise UnsupportedModelError(
            f"partial_rotary_factor = {rotated} is not supported for {config.model_type}; "
            f"supported: {', '.join(_PARTIAL)}"
        )
    channels = int(stored * (1.0 if rotated is None else rotated))
    if channels < 2 or channels % 2 or stored % 2:
        raise UnsupportedModelError(
            f"{channels} rotated of {stored} channels of a head are not supported: channels are "
            "rotated in pairs"
        )
    theta = _number(values, "rope_theta")
    stretch = _stretch(values, config.max_position_embeddings, channels, theta)
    return RopeSpec(theta, rotated=None if channels == used else channels, **stretch)


def _longest_text(values: Mapping[str, Any], positions: int) -> int:
    """Return the text length up to which a rope's angles do not depend on it."""
    if values.get("rope_type") == "longrope":
        return min(positions, _original(values, positions))
    return positions


def _number(values: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = values.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelLoadError(f"config.json's rope_parameters need a number {name!r}, got {value!r}")
    return float(value)


def _original(values: Mapping[str, Any], positions: int) -> int:
    return int(_number(values, "original_max_position_embeddings", positions))


def _stretch(
    values: Mapping[str, Any], positions: int, channels: int, theta: float
) -> dict[str, Any]:
    """Return the ``RopeSpec`` fields of the scaling; none for the default."""
    match kind := values.get("rope_type", "default"):
        case "default":
            return {}
        case "dynamic":  # scales beyond the context only
            _number(values, "factor")
            return {}
        case "linear":
            return {"kind": kind, "factor": _number(values, "factor")}
        case "llama3":
            return {
                "kind": kind,
                "factor": _number(values, "factor"),
                "low_frequency": _number(values, "low_freq_factor"),
                "high_frequency": _number(values, "high_freq_factor"),
                "original_positions": _original(values, positions),
            }
        case "yarn" | "longrope":
            original = _original(values, positions)
            factor = _number(values, "factor", positions / original)
            if kind == "yarn":
                amplitude = _yarn_amplitude(values, factor)
                shape: dict[str, Any] = {"ramp": _ramp(values, original, channels, theta)}
            else:
                plain = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
                amplitude = _number(values, "attention_factor", plain)
                shape = {"divisors": _divisors(values, channels)}
            return {
                "kind": kind,
                "factor": factor,
                "original_positions": original,
                "amplitude": None if amplitude == 1.0 else amplitude,
                **shape,
            }
    raise UnsupportedModelError(
        f"rope scaling {kind!r} is not supported; supported: {', '.join(_KINDS)}"
    )


def _ramp(
    values: Mapping[str, Any], original: int, channels: int, theta: float
) -> tuple[float, float]:
    """Return YaRN's ramp over pairs (arXiv:2309.00071), with transformers' defaults."""
    slow, fast = _number(values, "beta_slow", 1.0), _number(values, "beta_fast", 32.0)
    ends = [
        channels * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (fast or 32.0, slow or 1.0)
    ]
    if values.get("truncate", True):
        ends = [math.floor(ends[0]), math.ceil(ends[1])]
    first, last = max(ends[0], 0), min(ends[1], channels - 1)
    return float(first), float(last) + (0.001 if first == last else 0.0)


def _yarn_amplitude(values: Mapping[str, Any], factor: float) -> float:
    if values.get("attention_factor") is not None:
        return _number(values, "attention_factor")

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    above, below = _number(values, "mscale", 0.0), _number(values, "mscale_all_dim", 0.0)
    return scale(above) / scale(below) if above and below else scale(1.0)


def _divisors(values: Mapping[str, Any], channels: int) -> tuple[float, ...]:
    """Return LongRoPE's short factors (arXiv:2402.13753), for texts up to the original length."""
    divisors = values.get("short_factor")
    if not isinstance(divisors, list) or len(divisors) != channels // 2:
        raise ModelLoadError(
            "config.json's rope_parameters need 'short_factor', one number for each of "
            f"{channels // 2} pairs of channels"
        )
    return tuple(float(divisor) for divisor in divisors)


_READERS: dict[str, Callable[[Any], ModelSpec]] = {
    "llama": _common,
    "mistral": _read_mistral,
    "qwen2": _read_qwen,
    "qwen3": _read_qwen,
    "gemma2": _read_gemma2,
    "gemma3_text": _read_gemma3,
    "granite": _read_granite,
    "olmo2": _common,
    "phi3": _read_mistral,
    "smollm3": _read_smollm3,
}
SUPPORTED_FAMILIES = tuple(_READERS)


_INPUT_BIASED = frozenset(f"self_attn.{name}_proj" for name in "qkv")
_ATTENTION = _INPUT_BIASED | {"self_attn.o_proj"}
_MLP = frozenset(f"mlp.{name}_proj" for name in ("gate", "up", "down"))


def _any_of(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda record: any(record.get(name) for name in names)


def _experts(record: Mapping[str, Any]) -> bool:
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    counts = (record.get(name) for name in names)
    return any(isinstance(count, int) and count > 1 for count in counts)


# Unsupported in any family; the second table only explains why a family is unsupported.
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
    """Raise UnsupportedModelError for an unsupported family or feature."""
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
    """Raise ModelLoadError for a bias that the family's code in transformers would ignore."""
    attention, mlp = (getattr(config, name, False) for name in ("attention_bias", "mlp_bias"))
    allowed = (_ATTENTION if attention else frozenset()) | (_MLP if mlp else frozenset())
    if config.model_type == "qwen2":
        allowed = _INPUT_BIASED
    for name in sorted(names):
        matrix = name.removesuffix(".bias")
        if matrix != name and ".".join(matrix.split(".")[-2:]) not in allowed:
            raise ModelLoadError(
                f"the weights hold {name!r}, but config.json says that there is no such bias "
                "(attention_bias, mlp_bias): correct the one or the other"
            )


# Fields read from a Llama's config.json, and their types.
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
# Ropes that need no other fields, and the fields that others take defaults from.
_PLAIN_ROPES = ("default", "linear", "llama3")
_ELSEWHERE = ("original_max_position_embeddings", "partial_rotary_factor", "rope_scaling")


def complete_config(record: Mapping[str, Any]) -> Any:
    """Return a complete Llama config without importing transformers (1.4 s), else None."""
    rope = record.get("rope_parameters")
    complete = record.get("model_type") == "llama" and all(
        type(record.get(name)) in kinds for name, kinds in _LLAMA.items()
    )
    if not complete or not isinstance(rope, dict) or any(record.get(n) for n in _ELSEWHERE):
        return None
    plain = rope.get("rope_type") in _PLAIN_ROPES and type(rope.get("rope_theta")) in (int, float)
    return SimpleNamespace(**record) if plain else None
