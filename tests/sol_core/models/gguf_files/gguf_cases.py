"""Tiny models of every family as GGUF files of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sol_core.models.loading import load_language_model
from tests.sol_core.models.gguf_files.tiny_gguf import VOCAB_SIZE, write_tiny_gguf
from tests.support.tiny_models import reference_model

COMMON = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
GEMMA = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
}
TIED = {"tie_word_embeddings": True}


def mixed(name):
    """A different kind for every matrix of a layer, the blocks that are not read among them."""
    kinds = {"q": "F16", "k": "BF16", "v": "Q5_0", "o": "F32", "gate": "Q8_0", "up": "Q4_0"}
    return kinds.get(name.split(".")[-2].removesuffix("_proj"), "Q5_1")


def llama3_factors():
    """As llama.cpp's converter computes them."""
    found = []
    for frequency in 1 / 500_000.0 ** (np.arange(0, 32, 2) / 32):
        length = 2 * np.pi / frequency
        if length < 8192 / 4:
            found.append(1.0)
        elif length > 8192:
            found.append(32.0)
        else:
            smooth = (8192 / length - 1) / 3
            found.append(1 / ((1 - smooth) / 32 + smooth))
    return np.array(found, np.float32)


@dataclass(frozen=True)
class Case:
    name: str  # as transformers begins its names
    options: dict[str, Any]
    kind: Callable[[str], str]
    keys: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)


def four_bits(kind):
    return lambda name: "Q8_0" if "embed" in name else kind


CASES = {
    "llama-q4_0": Case("Llama", TIED, four_bits("Q4_0")),
    "llama-q4_1": Case("Llama", TIED, four_bits("Q4_1")),
    "llama-mixed": Case(
        "Llama", {"rope_parameters": LLAMA3}, mixed,
        {"{arch}.rope.freq_base": 500_000.0, "{arch}.rope.dimension_count": 32},
        {"rope_freqs.weight": llama3_factors()},
    ),
    "qwen2-q8_0": Case(
        "Qwen2", TIED | {"rope_parameters": {
            "rope_type": "linear", "rope_theta": 50_000.0, "factor": 2.0}},
        lambda name: "Q8_0",
        {"{arch}.rope.freq_base": 50_000.0, "{arch}.rope.scaling.type": "linear",
         "{arch}.rope.scaling.factor": 2.0},
    ),
    "qwen3-f16": Case("Qwen3", {"head_dim": 16}, lambda name: "F16"),
    "gemma3-bf16": Case(
        "Gemma3",
        TIED | {"sliding_window": 8, "query_pre_attn_scalar": 32, "rope_parameters": GEMMA,
                "layer_types": ["sliding_attention", "full_attention"]},
        lambda name: "BF16",
        {"{arch}.attention.sliding_window": 8, "{arch}.attention.sliding_window_pattern": 2,
         "{arch}.rope.freq_base": 1_000_000.0, "{arch}.rope.scaling.type": "linear",
         "{arch}.rope.scaling.factor": 8.0},
    ),
}  # fmt: skip


def write(path, name="llama-q4_0", **options):
    """Write the file of a case; the model of transformers with what it holds."""
    case = CASES[name]
    torch.manual_seed(len(name))
    model = reference_model(case.name, COMMON | case.options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # else every norm is one, every bias zero
                parameter.add_(0.2 * torch.randn_like(parameter))
        keys = case.keys | options.pop("keys", {})
        tensors = case.tensors | options.pop("tensors", {})
        write_tiny_gguf(path, model, case.kind, keys=keys, tensors=tensors, **options)
    return model


def load(path, data_dir):
    return load_language_model(str(path), data_dir=data_dir, dtype="float32", device="cpu")
