"""Reads a GGUF file's header: the model's configuration and its tensors' offsets.

``gguf`` also reads the vocabulary, which takes seconds, so a converted file is not read again
(``gguf_folder.converted_folder``). To add a family, list its architecture in ``FAMILIES``.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sol_core.errors import ModelLoadError, UnsupportedModelError

if TYPE_CHECKING:
    from gguf import GGUFReader

MAGIC, VERSIONS = b"GGUF", (2, 3)
# GGUF architecture → family in transformers.
FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}
ROPE_FACTORS = "rope_freqs.weight"
_TOP = ("model.embed_tokens", "model.norm", "lm_head")
_LAYER = (
    "input_layernorm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj "
    "self_attn.q_norm self_attn.k_norm post_attention_layernorm pre_feedforward_layernorm "
    "post_feedforward_layernorm mlp.gate_proj mlp.up_proj mlp.down_proj"
)
_GEMMA_27B_LAYERS = 62  # scales its queries differently, and no key tells
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


class GgufTensor(NamedTuple):
    """A tensor in the file; its offset counts from the beginning of the file."""

    kind: str  # GGML's type: "F16", "Q4_0" …
    shape: tuple[int, ...]  # in torch's order, innermost last
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A file's metadata and its tensors' offsets."""

    path: Path
    metadata: dict[str, Any]  # by GGUF key; arrays of texts as their lengths
    tensors: dict[str, GgufTensor]  # by GGUF name

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture"))

    def value(self, key: str, default: Any = None) -> Any:
        """Return an architecture-specific value."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def number(self, key: str, default: float | None = None) -> float:
        """Return an architecture-specific number, common to all layers. Raises: SolError."""
        value = self.value(key, default)
        if value is None:
            raise ModelLoadError(
                f"{self.path} lacks {self.architecture}.{key}: convert the model anew"
            )
        if not isinstance(value, int | float):
            raise UnsupportedModelError(
                f"{self.path} has another {self.architecture}.{key} for each layer, which is not "
                "supported: one for all"
            )
        return value

    def integer(self, key: str, default: float | None = None) -> int:
        return int(self.number(key, default))


def read_gguf_header(path: Path) -> GgufHeader:
    """Read a file's header and check the file's length."""
    from gguf import GGUFReader

    try:
        with path.open("rb") as file:
            start = file.read(8)
        if not start.startswith(MAGIC):
            raise ModelLoadError(
                f"{path} is not a GGUF file: it begins with {start[:4]!r}, not {MAGIC!r}. Give a "
                ".gguf file, a folder with config.json and safetensors, or a Hub id"
            )
        (version,) = struct.unpack("<I", start[4:])
        if version not in VERSIONS:
            raise UnsupportedModelError(
                f"{path} is of GGUF's version {version}, or of a big-endian machine; read are "
                f"versions {VERSIONS[0]} and {VERSIONS[1]}: convert the model anew with llama.cpp"
            )
        return _header(path, GGUFReader(path))
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
    except (struct.error, LookupError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, UnsupportedModelError):
            raise
        raise ModelLoadError(
            f"{path} is damaged or truncated, or holds blocks that the package gguf does not know "
            f"({error}): copy it again from where it came, or update gguf"
        ) from error


def _header(path: Path, reader: GGUFReader) -> GgufHeader:
    metadata = {}
    for name, field in reader.fields.items():
        holds_texts = [kind.name for kind in field.types] == ["ARRAY", "STRING"]
        metadata[name] = len(field.data) if holds_texts else field.contents()
    tensors = {
        tensor.name: GgufTensor(
            tensor.tensor_type.name,
            tuple(reversed(tensor.shape.tolist())),
            tensor.data_offset,
            tensor.n_bytes,
        )
        for tensor in reader.tensors
    }
    return GgufHeader(path, metadata, tensors)


def check_gguf(header: GgufHeader) -> None:
    """Raises: ModelLoadError, UnsupportedModelError for a file that cannot be decoded."""
    path, metadata = header.path, header.metadata
    if header.architecture not in FAMILIES:
        raise UnsupportedModelError(
            f"{path} has the architecture {header.architecture!r}, which is not supported; "
            f"supported: {', '.join(FAMILIES)}"
        )
    if metadata.get("split.count", 1) > 1:
        raise ModelLoadError(
            f"{path} is one of {metadata['split.count']} parts, and one file is read: join them "
            "with llama.cpp's llama-gguf-split --merge"
        )
    if not metadata.get("tokenizer.ggml.tokens"):
        raise ModelLoadError(
            f"{path} has no tokenizer (tokenizer.ggml.tokens): take a file that was converted with "
            "its vocabulary"
        )
    checkpoint_names(header)
    config_values(header)


def checkpoint_names(header: GgufHeader) -> dict[str, str]:
    """Map GGUF names to checkpoint names ("model.layers.0.…"), except rotary factors."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    (family,) = (key for key, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    layers = min(header.integer("block_count"), len(header.tensors))
    ours = (f"model.layers.{layer}.{part}" for layer in range(layers) for part in _LAYER.split())
    known = get_tensor_name_map(family, layers)
    stems = {known.get_name(stem): stem for stem in (*_TOP, *ours)}
    names = {}
    for name in header.tensors:
        stem, _, suffix = name.rpartition(".")
        if stem in stems and suffix in ("weight", "bias"):
            names[name] = f"{stems[stem]}.{suffix}"
        elif name != ROPE_FACTORS:
            raise UnsupportedModelError(
                f"{header.path} holds {name!r}, which no {header.architecture} that is supported "
                "has (mixtures of experts are not)"
            )
    return names


def config_values(header: GgufHeader) -> dict[str, Any]:
    """Return the arguments of the family's configuration in transformers."""
    layers, width = header.integer("block_count"), header.integer("embedding_length")
    heads = header.integer("attention.head_count")
    rotated = header.integer("rope.dimension_count", width // heads)
    head_size = header.integer("attention.key_length", rotated)
    if header.value("rope.dimension_count") is not None and rotated != head_size:
        raise UnsupportedModelError(
            f"{header.path} rotates {rotated} of a head's {head_size} channels, which is not "
            "supported: all or none"
        )
    if "token_embd.weight" not in header.tensors:
        raise ModelLoadError(f"{header.path} lacks 'token_embd.weight': its weights are incomplete")
    rope = {"rope_theta": float(header.number("rope.freq_base", 10_000.0)), **_stretch(header)}
    values: dict[str, Any] = {
        "vocab_size": header.tensors["token_embd.weight"].shape[0],
        "hidden_size": width,
        "intermediate_size": header.integer("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": header.integer("attention.head_count_kv", heads),
        "head_dim": head_size,
        "max_position_embeddings": header.integer("context_length"),
        "rms_norm_eps": float(header.number("attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in header.tensors,
        "rope_parameters": rope,
        "bos_token_id": header.metadata.get("tokenizer.ggml.bos_token_id"),
    }
    return values | (_gemma(header, values) if header.architecture == "gemma3" else {})


def end_ids(header: GgufHeader) -> list[int]:
    """Return the ids that end a text, turn or message, the tokenizer's own first."""
    keys = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]
    return list(dict.fromkeys(header.metadata[key] for key in keys if key in header.metadata))


def _gemma(header: GgufHeader, values: dict[str, Any]) -> dict[str, Any]:
    layers = values["num_hidden_layers"]
    pattern = header.value("attention.sliding_window_pattern", 6)
    if not isinstance(pattern, list):  # period of the layers with full attention
        pattern = [(layer + 1) % pattern != 0 for layer in range(layers)]
    scaled = values["hidden_size"] // values["num_attention_heads"]
    local = float(header.number("rope.freq_base_swa", 10_000.0))
    return {
        "layer_types": [
            "sliding_attention" if is_local else "full_attention" for is_local in pattern
        ],
        "sliding_window": header.integer("attention.sliding_window"),
        "query_pre_attn_scalar": scaled if layers == _GEMMA_27B_LAYERS else values["head_dim"],
        "rope_parameters": {
            "full_attention": values["rope_parameters"],
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
    }


def _stretch(header: GgufHeader) -> dict[str, Any]:
    """Return the rotary scaling: none, linear, or Llama 3's."""
    kind = header.value("rope.scaling.type", "none")
    if ROPE_FACTORS in header.tensors:
        return _llama3(header)
    if kind == "linear":
        return {"rope_type": "linear", "factor": float(header.number("rope.scaling.factor"))}
    if kind != "none":
        raise UnsupportedModelError(
            f"{header.path} scales its rotary embedding by {kind!r}, which is not supported; "
            "supported: none, linear, Llama 3's"
        )
    return {"rope_type": "default"}


def _llama3(header: GgufHeader) -> dict[str, Any]:
    """Return Llama 3's rotary parameters that match the file's factors."""
    tensor = header.tensors[ROPE_FACTORS]
    count, low, high, positions = tensor.shape[-1], *_LLAMA3.values()
    given = np.fromfile(header.path, "<f4", count, offset=tensor.offset)
    theta, factor = float(header.number("rope.freq_base")), float(given.max())
    lengths = 2 * math.pi * theta ** (np.arange(count) / count)
    smooth = np.clip((positions / lengths - low) / (high - low), 0, 1)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if tensor.kind != "F32" or not np.allclose(given, expected, rtol=1e-3, atol=0):
        raise UnsupportedModelError(
            f"{header.path} stretches its rotary embedding by factors ({ROPE_FACTORS}) that are "
            "not Llama 3's: only those are supported"
        )
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
