"""A small model of random weights, as wide as the loaded one, for checks and warm-ups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from sol_core.models.decoder import FrozenLM
from sol_core.models.spec import Activation, ModelSpec, plain_llama
from sol_core.models.weights import arrange_weights, in_channel_major

_LAYERS = 3
_VOCABULARY = 64
_MAX_POSITIONS = 1024


class Widths(NamedTuple):
    """Sizes of a layer that determine how kernels are compiled and launched."""

    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    activation: Activation = "silu"
    biased: bool = False  # whether the MLP has biases

    @classmethod
    def of(cls, spec: ModelSpec, names: Iterable[str]) -> Widths:
        """Return the widths of an architecture and of weights by Hugging Face names."""
        sizes = spec.hidden_size, spec.intermediate_size, spec.num_heads, spec.num_kv_heads
        biased = any(".mlp." in name and name.endswith(".bias") for name in names)
        return cls(*sizes, spec.head_size, spec.activation, biased)

    @classmethod
    def of_model(cls, lm: FrozenLM) -> Widths:
        biased = lm.weights.layers[0].gate_up.bias is not None
        return cls.of(lm.spec, [".mlp.bias"] if biased else [])

    def spec(self) -> ModelSpec:
        """Return the small model's architecture."""
        sizes = {"hidden_size": self.hidden, "intermediate_size": self.inner,
                 "num_heads": self.heads, "num_kv_heads": self.kv_heads,
                 "head_size": self.head_size, "vocab_size": _VOCABULARY,
                 "num_layers": _LAYERS}  # fmt: skip
        return replace(plain_llama(_MAX_POSITIONS, **sizes), activation=self.activation)


class Setting(NamedTuple):
    """A check's device, dtype and the loaded model's widths."""

    device: torch.device
    dtype: torch.dtype
    widths: Widths
    seed: int = 0

    def random(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Draw normal numbers of the dtype, on the device."""
        return (torch.randn(shape, device=self.device) * scale).to(self.dtype)

    def counts(self, low: int, high: int, rows: int) -> Tensor:
        """Draw [rows] int64 in [low, high]."""
        return torch.randint(low, high + 1, (rows,), device=self.device)


# Proportions of a small Llama; the few-row kernels need whole vectors of channels.
SMALL = Widths(192, 256, 3, 1, 64)
SMALL_SPEC = SMALL.spec()


def small_model(tensors: dict[str, Tensor], at: Setting) -> FrozenLM:
    """Make the decoder, with weights laid out as on a card on any device."""
    spec = at.widths.spec()
    weights = arrange_weights(tensors, spec, at.dtype, lambda tensor: tensor.to(at.device))
    layers = tuple(
        replace(layer, gate_up=in_channel_major(layer.gate_up), down=in_channel_major(layer.down))
        for layer in weights.layers
    )
    return FrozenLM(spec, replace(weights, layers=layers))


def small_tensors(widths: Widths = SMALL, seed: int = 0) -> dict[str, Tensor]:
    """Make random weights of ``widths.spec()`` under their Hugging Face names."""
    generator = torch.Generator().manual_seed(seed)
    size, spec = widths.hidden, widths.spec()
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
            f"{name}.mlp.gate_proj": (widths.inner, size),
            f"{name}.mlp.up_proj": (widths.inner, size),
            f"{name}.mlp.down_proj": (size, widths.inner),
        }
    for name, shape in shapes.items():
        scale = 1.4 * shape[1] ** -0.5
        tensors[f"model.{name}.weight"] = scale * torch.randn(shape, generator=generator)
        if widths.biased and ".mlp." in name:
            tensors[f"model.{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return tensors
