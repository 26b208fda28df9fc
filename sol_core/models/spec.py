"""Architecture of a model family, read from its Hugging Face config.

One decoder serves every family; this file is the only place that knows their
differences. To add a family, write a reader here and list it in ``_READERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from sol_core.errors import ModelLoadError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = [
    "SUPPORTED_FAMILIES",
    "ModelSpec",
    "RopeSpec",
    "complete_config",
    "refuse_denied_biases",
    "spec_from_config",
]

Activation = Literal["silu", "gelu_tanh"]
_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_INPUT_BIASED = frozenset(f"self_attn.{name}_proj" for name in "qkv")
_ATTENTION = _INPUT_BIASED | {"self_attn.o_proj"}
_MLP = frozenset(f"mlp.{name}_proj" for name in ("gate", "up", "down"))


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding (arXiv:2104.09864) and how it is stretched.

    Attributes:
        kind: "default", "linear" (positions divided by ``factor``) or "llama3"
            (wavelengths above ``original_positions / low_frequency`` divided by
            ``factor``, those below ``/ high_frequency`` kept, between interpolated).
    """

    theta: float = 10_000.0
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shapes and switches of a decoder-only transformer with gated MLPs.

    Attributes:
        windows: per layer, how many last tokens attention sees; None is all.
        ropes: per layer, its rotary embedding.
        attention_scale: factor on query·key.
        norm_offset: added to every norm weight (Gemma stores weight − 1).
        embedding_scale: factor on token embeddings.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    max_positions: int
    norm_eps: float
    activation: Activation
    attention_scale: float
    windows: tuple[int | None, ...]
    ropes: tuple[RopeSpec, ...]
    tied_head: bool
    norm_offset: float = 0.0
    embedding_scale: float = 1.0

    @property
    def kv_width(self) -> int:
        return self.num_kv_heads * self.head_size

    @property
    def query_width(self) -> int:
        return self.num_heads * self.head_size


def complete_config(record: Mapping[str, Any]) -> Any:
    """Return a Llama's config.json as a config if it says everything that is read here, else None.

    For another family, and where anything is missing or unusual, transformers' own class has to
    fill in and check; importing it takes longer (1.4 s) than reading the default model's weights.
    """
    rope = record.get("rope_parameters")
    complete = record.get("model_type") == "llama" and all(
        type(record.get(name)) in kinds for name, kinds in _LLAMA.items()
    )
    if complete and isinstance(rope, dict) and type(rope.get("rope_theta")) in (int, float):
        return SimpleNamespace(**record)
    return None


def spec_from_config(config: PretrainedConfig) -> ModelSpec:
    """Read a transformers config.

    Raises: UnsupportedModelError for another family, or a feature the decoder lacks.
    """
    reader = _READERS.get(config.model_type)
    if reader is None:
        raise UnsupportedModelError(
            f"model family {config.model_type!r} is not supported; "
            f"supported: {', '.join(SUPPORTED_FAMILIES)}"
        )
    return reader(config)


def refuse_denied_biases(config: PretrainedConfig, names: Iterable[str]) -> None:
    """Raises: ModelLoadError for a bias that transformers would leave out."""
    allowed = _biased_matrices(config)
    for name in sorted(names):
        matrix = name.removesuffix(".bias")
        if matrix != name and ".".join(matrix.split(".")[-2:]) not in allowed:
            raise ModelLoadError(
                f"the weights hold {name!r}, but config.json says that there is no such bias "
                "(attention_bias, mlp_bias): correct the one or the other"
            )


def _biased_matrices(config: PretrainedConfig) -> frozenset[str]:
    """Matrices of a layer that have a bias, as the family's code in transformers reads a config."""
    if config.model_type == "qwen2":
        return _INPUT_BIASED
    attention, mlp = (getattr(config, name, False) for name in ("attention_bias", "mlp_bias"))
    return (_ATTENTION if attention else frozenset()) | (_MLP if mlp else frozenset())


def _common(config: PretrainedConfig, **differences: Any) -> ModelSpec:
    head_size = (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    act = getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", None)
    if act not in _ACTIVATIONS:
        raise UnsupportedModelError(
            f"MLP activation {act!r} is not supported; supported: {', '.join(_ACTIVATIONS)}"
        )
    if config.num_attention_heads % config.num_key_value_heads:
        raise UnsupportedModelError(
            f"{config.num_attention_heads} query heads cannot share "
            f"{config.num_key_value_heads} key-value heads evenly"
        )
    fields: dict[str, Any] = {
        "family": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "head_size": head_size,
        "max_positions": config.max_position_embeddings,
        "norm_eps": config.rms_norm_eps,
        "activation": _ACTIVATIONS[act],
        "attention_scale": head_size**-0.5,
        "windows": (None,) * config.num_hidden_layers,
        "tied_head": bool(config.tie_word_embeddings),
    }
    if "ropes" not in differences:
        fields["ropes"] = (_rope(config.rope_parameters),) * config.num_hidden_layers
    return ModelSpec(**fields | differences)


def _read_llama(config: PretrainedConfig) -> ModelSpec:
    return _common(config)


def _read_mistral(config: PretrainedConfig) -> ModelSpec:
    return _common(config, windows=(config.sliding_window or None,) * config.num_hidden_layers)


def _read_qwen(config: PretrainedConfig) -> ModelSpec:
    return _common(config, windows=_windows(config))


def _read_gemma3(config: PretrainedConfig) -> ModelSpec:
    for name in ("final_logit_softcapping", "attn_logit_softcapping"):
        if getattr(config, name, None) is not None:
            raise UnsupportedModelError(f"{name} = {getattr(config, name)} is not supported")
    if getattr(config, "use_bidirectional_attention", False):
        raise UnsupportedModelError("bidirectional attention is not supported: nothing to decode")
    ropes = {kind: _rope(values) for kind, values in config.rope_parameters.items()}
    return _common(
        config,
        windows=_windows(config),
        ropes=tuple(ropes[kind] for kind in config.layer_types),
        attention_scale=config.query_pre_attn_scalar**-0.5,
        norm_offset=1.0,
        embedding_scale=config.hidden_size**0.5,
    )


def _windows(config: PretrainedConfig) -> tuple[int | None, ...]:
    return tuple(
        config.sliding_window if kind == "sliding_attention" else None
        for kind in config.layer_types
    )


def _rope(values: dict[str, Any]) -> RopeSpec:
    kind = values.get("rope_type", "default")
    theta = float(values["rope_theta"])
    if kind == "default":
        return RopeSpec(theta)
    if kind == "linear":
        return RopeSpec(theta, "linear", float(values["factor"]))
    if kind == "llama3":
        return RopeSpec(
            theta,
            "llama3",
            float(values["factor"]),
            float(values["low_freq_factor"]),
            float(values["high_freq_factor"]),
            int(values["original_max_position_embeddings"]),
        )
    raise UnsupportedModelError(
        f"rope scaling {kind!r} is not supported; supported: default, linear, llama3"
    )


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
_READERS: dict[str, Callable[[PretrainedConfig], ModelSpec]] = {
    "llama": _read_llama,
    "mistral": _read_mistral,
    "qwen2": _read_qwen,
    "qwen3": _read_qwen,
    "gemma3_text": _read_gemma3,
}
SUPPORTED_FAMILIES = tuple(_READERS)
