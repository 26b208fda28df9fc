"""A family's transformers config as a ``ModelSpec``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sol_core.errors import UnsupportedModelError
from sol_core.models.families.layer_names import layer_names
from sol_core.models.families.refusals import refuse_family
from sol_core.models.families.ropes import longest_text, rope_spec
from sol_core.models.spec import Activation, ModelSpec, RopeSpec

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_LAYERS = ("full_attention", "sliding_attention")
_WHOLE = 8  # channels of a head come in multiples of it


def spec_from_config(config: PretrainedConfig) -> ModelSpec:
    """Raises: UnsupportedModelError for what the decoder lacks."""
    refuse_family({**vars(config), "model_type": config.model_type}, SUPPORTED_FAMILIES)
    return _READERS[config.model_type](config)


def _common(config: PretrainedConfig, **differences: Any) -> ModelSpec:
    """Llama's spec but for the differences, which may name an activation of transformers."""
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
        fields["ropes"] = (rope_spec(rope, config, stored, used),) * config.num_hidden_layers
        fields["max_positions"] = longest_text(rope, config.max_position_embeddings)
    return ModelSpec(**fields | differences)


def _head_sizes(config: PretrainedConfig) -> tuple[int, int]:
    """Channels of a head in the checkpoint, and in the decoder."""
    stored = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    used = -(-stored // _WHOLE) * _WHOLE
    if used != stored and layer_names(config.model_type).query_key_norms:
        raise UnsupportedModelError(
            f"heads of {stored} channels with norms of queries and keys are not supported: "
            f"multiples of {_WHOLE} are"
        )
    return stored, used


def _read_mistral(config: PretrainedConfig) -> ModelSpec:
    return _common(config, windows=(config.sliding_window or None,) * config.num_hidden_layers)


def _read_qwen(config: PretrainedConfig) -> ModelSpec:
    return _common(config, windows=_windows(config))


def _read_granite(config: PretrainedConfig) -> ModelSpec:
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


def _read_smollm3(config: PretrainedConfig) -> ModelSpec:
    plain = _common(config, windows=_windows(config))
    none, rotates = RopeSpec(plain.ropes[0].theta, "none"), config.no_rope_layers
    ropes = (rope if does else none for rope, does in zip(plain.ropes, rotates, strict=False))
    return replace(plain, ropes=tuple(ropes))


def _read_gemma2(config: PretrainedConfig, **differences: Any) -> ModelSpec:
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


def _read_gemma3(config: PretrainedConfig) -> ModelSpec:
    sizes, parameters = _head_sizes(config), config.rope_parameters
    ropes = {kind: rope_spec(values, config, *sizes) for kind, values in parameters.items()}
    return _read_gemma2(
        config,
        ropes=tuple(ropes[kind] for kind in config.layer_types),
        max_positions=min(
            longest_text(values, config.max_position_embeddings) for values in parameters.values()
        ),
    )


def _windows(config: PretrainedConfig) -> tuple[int | None, ...]:
    for kind in config.layer_types:
        if kind not in _LAYERS:
            raise UnsupportedModelError(
                f"layers of type {kind!r} are not supported; supported: {', '.join(_LAYERS)}"
            )
    return tuple(
        config.sliding_window if kind == "sliding_attention" else None
        for kind in config.layer_types
    )


_READERS: dict[str, Callable[[PretrainedConfig], ModelSpec]] = {
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
