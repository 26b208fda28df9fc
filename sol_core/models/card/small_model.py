"""A small Llama of random weights, with which kernels are compiled and checked."""

from __future__ import annotations

import torch
from torch import Tensor

from sol_core.models.spec import plain_llama

# The proportions of a small Llama: the kernels for one text ask for whole vectors of channels.
SMALL_SPEC = plain_llama(
    256,
    vocab_size=64,
    hidden_size=192,
    intermediate_size=256,
    num_layers=3,
    num_heads=3,
    num_kv_heads=1,
    head_size=64,
)


def small_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    size, spec = SMALL_SPEC.hidden_size, SMALL_SPEC
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (spec.vocab_size, size)}
    tensors = {"model.norm.weight": torch.ones(size)}
    for layer in range(spec.num_layers):
        name = f"layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.{name}.{norm}.weight"] = torch.ones(size)
        shapes |= {
            f"{name}.self_attn.q_proj": (spec.query_width, size),
            f"{name}.self_attn.k_proj": (spec.kv_width, size),
            f"{name}.self_attn.v_proj": (spec.kv_width, size),
            f"{name}.self_attn.o_proj": (size, spec.query_width),
            f"{name}.mlp.gate_proj": (spec.intermediate_size, size),
            f"{name}.mlp.up_proj": (spec.intermediate_size, size),
            f"{name}.mlp.down_proj": (size, spec.intermediate_size),
        }
    for name, shape in shapes.items():
        tensors[f"model.{name}.weight"] = 0.1 * torch.randn(shape, generator=generator)
    return tensors
