"""Tiny random-weight models of every supported family, made with transformers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from sol_core.models import FrozenLM, spec_from_config
from sol_core.models.weights import arrange_weights, in_channel_major

LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0 + 0.25 * pair for pair in range(9)],
    "long_factor": [2.0 + pair for pair in range(9)],
}
GEMMA_ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
}


@dataclass(frozen=True)
class Family:
    """One configuration worth testing."""

    name: str
    kind: str  # as transformers begins its names
    options: dict[str, Any] = field(default_factory=dict)


FAMILIES = [
    Family("llama-gqa-tied", "Llama", {"tie_word_embeddings": True}),
    Family("llama-mha-untied", "Llama", {"num_key_value_heads": 6}),
    Family("llama-mqa-bias", "Llama",
           {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True}),
    Family("llama3-rope", "Llama", {"rope_parameters": LLAMA3_ROPE, "head_dim": 32}),
    Family("mistral", "Mistral", {"sliding_window": None}),
    Family("mistral-window", "Mistral", {"sliding_window": 9}),
    Family("qwen2", "Qwen2", {"tie_word_embeddings": True}),
    Family("qwen2-window", "Qwen2",
           {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    Family("qwen3", "Qwen3", {"head_dim": 24}),
    Family("qwen3-mha", "Qwen3",
           {"num_key_value_heads": 6, "tie_word_embeddings": True, "head_dim": 16}),
    Family("gemma3", "Gemma3", {"sliding_window": 8, "head_dim": 32, "query_pre_attn_scalar": 24,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": GEMMA_ROPES, "tie_word_embeddings": True}),
    Family("llama-odd-heads", "Llama", {"head_dim": 20, "attention_bias": True}),
    Family("falcon3", "Llama", {"head_dim": 40, "num_attention_heads": 4}),
    Family("dynamic-rope", "Llama", {"rope_parameters": {
        "rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}}),
    Family("yarn-rope", "Llama", {"rope_parameters": YARN_ROPE}),
    Family("yarn-rope-deepseek", "Qwen3", {"head_dim": 32,
        "rope_parameters": YARN_ROPE | {"truncate": False, "mscale": 0.7, "mscale_all_dim": 0.3}}),
    Family("longrope", "Llama", {"head_dim": 18, "rope_parameters":
        LONG_ROPE | {"original_max_position_embeddings": 64, "factor": 4.0}}),
    Family("phi3", "Phi3", {"num_key_value_heads": 6}),
    Family("phi3-window", "Phi3", {"sliding_window": 9,
        "rope_parameters": {"rope_theta": 10_000.0, "partial_rotary_factor": 0.5}}),
    Family("phi3-longrope", "Phi3",
           {"hidden_size": 144, "rope_parameters": LONG_ROPE | {"partial_rotary_factor": 0.75},
            "original_max_position_embeddings": 64, "tie_word_embeddings": True}),
    Family("olmo2", "Olmo2", {}),
    Family("olmo2-mha-bias", "Olmo2",
           {"num_key_value_heads": 6, "attention_bias": True, "tie_word_embeddings": True}),
    Family("granite", "Granite",
           {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0,
            "attention_multiplier": 0.11, "tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    Family("granite-bias", "Granite",
           {"residual_multiplier": 1.7, "attention_bias": True, "mlp_bias": True}),
    Family("smollm3", "SmolLM3", {"num_hidden_layers": 4, "tie_word_embeddings": True}),
    Family("smollm3-window", "SmolLM3",
           {"no_rope_layers": [0, 1, 1], "use_sliding_window": True, "sliding_window": 9}),
    Family("gemma2", "Gemma2", {"sliding_window": 8, "head_dim": 32, "query_pre_attn_scalar": 24,
            "tie_word_embeddings": True, "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0}),
    Family("gemma2-uncapped", "Gemma2",
           {"sliding_window": 8, "head_dim": 24, "attn_logit_softcapping": None,
            "final_logit_softcapping": 5.0}),
]  # fmt: skip


def reference_model(kind, options):
    """transformers' model of a kind with random weights."""
    config = getattr(transformers, kind + ("TextConfig" if kind == "Gemma3" else "Config"))
    return getattr(transformers, f"{kind}ForCausalLM")(config(**options)).eval()


def make_pair(family, seed=0, dtype=torch.float32):
    """transformers' model in fp32, and ours over the same random weights."""
    options = {
        "vocab_size": 199, "hidden_size": 96, "intermediate_size": 176, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "tie_word_embeddings": False, "initializer_range": 0.15, "attn_implementation": "eager",
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    } | family.options  # fmt: skip
    torch.manual_seed(seed)
    reference = reference_model(family.kind, options).float()
    # Fresh models have unit norms and zero biases, which would hide mistakes in both.
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    tensors = {k: v for k, v in reference.state_dict().items() if k != "lm_head.weight"}
    if not reference.config.tie_word_embeddings:
        tensors["lm_head.weight"] = reference.state_dict()["lm_head.weight"]
    spec = spec_from_config(reference.config)
    return reference, FrozenLM(spec, arrange_weights(tensors, spec, dtype))


def family_of(name, **options):
    """The family with some options of its configuration changed."""
    family = next(family for family in FAMILIES if family.name == name)
    return dataclasses.replace(family, options=family.options | options)


def make_tiny_lm(name="llama-gqa-tied", seed=0, dtype=torch.float32, **options):
    """Our decoder over random weights."""
    return make_pair(family_of(name, **options), seed, dtype)[1]


def moved(lm, device):
    """The same model on another device; on "meta" it has shapes but no numbers."""
    return FrozenLM(lm.spec, _moved(lm.weights, device))


def _moved(value, device):
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(part, device) for part in value)
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        parts = {part.name: _moved(getattr(value, part.name), device) for part in fields}
        return dataclasses.replace(value, **parts)
    return value


def laid_out_for_cuda(lm):
    """With the weights as they are laid out when they are loaded for a CUDA device."""
    layers = tuple(
        dataclasses.replace(
            layer, gate_up=in_channel_major(layer.gate_up), down=in_channel_major(layer.down)
        )
        for layer in lm.weights.layers
    )
    return FrozenLM(lm.spec, dataclasses.replace(lm.weights, layers=layers))
