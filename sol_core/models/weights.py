"""Model weights, read from safetensors and laid out for decoding.

A matrix is always *addressed* as [in, out], so the decoder writes ``x @ w``. How it
lies in memory is decided here: fp32 is stored in-channel-major, because one-row
products then read 16–22 GB/s instead of 11 on two CPU cores (``docs/decisions.md``)
and a pruned channel is one contiguous row; 16-bit types stay out-channel-major,
where the CPU's bf16 product is fastest. On CUDA the MLP is in-channel-major in every
dtype: its kernels skip pruned channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.integer_linear import IntegerMatrix
from kernels.linear import linear
from kernels.linear.packed import pack_weight, packed_product
from kernels.quantised_weights import GgufBlocks
from sol_core.errors import ModelLoadError
from sol_core.models.quantised import join_blocks
from sol_core.models.spec import ModelSpec

__all__ = [
    "IntegerMlp",
    "LayerWeights",
    "Linear",
    "ModelWeights",
    "arrange_weights",
    "in_channel_major",
    "packed_for_many_rows",
]


@dataclass(frozen=True, slots=True)
class Linear:
    """An affine map: weight [in, out], bias [out] or None; ``packed``, the weight once more,
    arranged for products of many rows; ``blocks``, as the file it is from has it."""

    weight: Tensor
    bias: Tensor | None = None
    packed: Tensor | None = None
    blocks: GgufBlocks | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """[..., in] of any float dtype → [..., out] in the weight's dtype or fp32."""
        if self.packed is not None:
            return packed_product(inputs, self.packed, self.bias)
        product = linear(inputs, self.weight)
        return product if self.bias is None else product + self.bias


@dataclass(frozen=True, slots=True)
class IntegerMlp:
    """Int8 copies of a layer's MLP matrices; the biases stay the layer's own."""

    gate_up: IntegerMatrix
    down: IntegerMatrix


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer; norms are [C] (or [D] per head) fp32, offset included."""

    attention_norm: Tensor
    query_key_value: Linear  # [C, (H + 2·Hkv)·D]
    attention_output: Linear  # [H·D, C]
    mlp_norm: Tensor
    gate_up: Linear  # [C, 2·I], gate first
    down: Linear  # [I, C]
    query_norm: Tensor | None = None
    key_norm: Tensor | None = None
    attention_output_norm: Tensor | None = None
    mlp_output_norm: Tensor | None = None
    integer_mlp: IntegerMlp | None = None  # see ``integer_mlp.py``
    down_norms: Tensor | None = None  # [I] fp32, Euclidean norms of down's rows

    @property
    def matrices(self) -> tuple[Linear, Linear, Linear, Linear]:
        """In the order in which a step multiplies with them."""
        return self.query_key_value, self.attention_output, self.gate_up, self.down


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """All weights; ``head`` is the embedding's own memory when the two are tied."""

    embedding: Tensor  # [V, C]
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: Linear  # [C, V]

    def matrices(self) -> Iterator[Linear]:
        """All that a step multiplies with."""
        for layer in self.layers:
            yield from layer.matrices
        yield self.head


class _Reader:
    """Takes tensors by name, checks their shape, and knows which were left over."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        spec: ModelSpec,
        dtype: torch.dtype,
        blocks: Mapping[str, GgufBlocks],
    ) -> None:
        self.tensors = tensors
        self.blocks = blocks
        self.spec = spec
        self.dtype = dtype
        self.used: set[str] = set()

    def take(self, name: str, *shape: int) -> Tensor:
        if name not in self.tensors:
            raise ModelLoadError(f"the weights lack {name!r}; the model's files are incomplete")
        self.used.add(name)
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise ModelLoadError(
                f"weight {name!r} has shape {tuple(tensor.shape)}, config.json says {shape}"
            )
        return tensor

    def norm(self, name: str, width: int) -> Tensor:
        return self.take(name + ".weight", width).float() + self.spec.norm_offset

    def optional_norm(self, name: str, width: int) -> Tensor | None:
        return self.norm(name, width) if name + ".weight" in self.tensors else None

    def linear(self, prefix: str, names: dict[str, int], in_size: int) -> Linear:
        """Matrices side by side; a bias where any of them has one (zero for the others)."""
        weight = torch.cat(
            [
                self.take(f"{prefix}{n}.weight", out, in_size).to(self.dtype)
                for n, out in names.items()
            ]
        )
        bias = None
        if any(f"{prefix}{name}.bias" in self.tensors for name in names):
            bias = torch.cat(
                [
                    self.take(f"{prefix}{name}.bias", out).to(self.dtype)
                    if f"{prefix}{name}.bias" in self.tensors
                    else torch.zeros(out, dtype=self.dtype)
                    for name, out in names.items()
                ]
            )
        blocks = join_blocks(self.blocks, [f"{prefix}{name}.weight" for name in names])
        return Linear(in_out_view(weight), bias, blocks=blocks)


def in_out_view(weight: Tensor) -> Tensor:
    """[out, in] → the same matrix addressed as [in, out], in the layout this dtype likes."""
    return weight.t().contiguous() if weight.dtype == torch.float32 else weight.contiguous().t()


def in_channel_major(linear: Linear) -> Linear:
    """The same map with each input channel's weights in one contiguous row."""
    return Linear(linear.weight.contiguous(), linear.bias)


def packed_for_many_rows(weights: ModelWeights, num_rows: int) -> ModelWeights:
    """The same weights with a packed copy beside each matrix, where the CPU gains by it.

    Args:
        num_rows: how many rows a product has.
    """

    def pack(linear: Linear) -> Linear:
        return dataclasses.replace(linear, packed=pack_weight(linear.weight, num_rows))

    layers = tuple(_each_linear(layer, pack) for layer in weights.layers)
    return dataclasses.replace(weights, layers=layers, head=pack(weights.head))


def arrange_weights(
    tensors: Mapping[str, Tensor],
    spec: ModelSpec,
    dtype: torch.dtype,
    to_device: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    blocks: Mapping[str, GgufBlocks] | None = None,
) -> ModelWeights:
    """Build the decoder's weights from Hugging Face names.

    Args:
        tensors: by checkpoint name ("model.layers.0.…"), any float dtype.
        blocks: some of the matrices once more, see ``quantised.py``; for a CPU only.
        dtype: dtype of the matrices; norms stay fp32.
        to_device: moves each finished tensor.
    Raises: ModelLoadError for missing, misshapen or unknown tensors.
    """
    reader = _Reader(tensors, spec, dtype, blocks or {})
    embedding_name = "model.embed_tokens.weight"
    embedding = reader.take(embedding_name, spec.vocab_size, spec.hidden_size)
    layers = tuple(_layer(reader, f"model.layers.{i}.") for i in range(spec.num_layers))
    final_norm = reader.norm("model.norm", spec.hidden_size)
    # A head of its own counts where the config claims that there is none, as in transformers.
    is_tied = spec.tied_head and torch.equal(tensors.get("lm_head.weight", embedding), embedding)
    if not is_tied:
        head = reader.linear("", {"lm_head": spec.vocab_size}, spec.hidden_size)
        placed_embedding = to_device(embedding.to(dtype))
        placed_head = _placed(head, to_device)
    else:
        reader.used.add("lm_head.weight")
        tied = join_blocks(reader.blocks, [embedding_name])
        placed_head = _placed(Linear(in_out_view(embedding.to(dtype)), blocks=tied), to_device)
        placed_embedding = placed_head.weight.t()
    _refuse_leftovers(set(tensors) - reader.used)
    return ModelWeights(
        placed_embedding,
        tuple(_place_layer(layer, to_device) for layer in layers),
        to_device(final_norm),
        placed_head,
    )


def _layer(reader: _Reader, prefix: str) -> LayerWeights:
    spec = reader.spec
    width, attention = spec.hidden_size, prefix + "self_attn."
    # Gemma 3 names the norm before the MLP "pre_feedforward" and uses
    # "post_attention" for a norm of the attention's output; the others have the latter only.
    sandwich = prefix + "pre_feedforward_layernorm.weight" in reader.tensors
    before_mlp = "pre_feedforward_layernorm" if sandwich else "post_attention_layernorm"
    return LayerWeights(
        attention_norm=reader.norm(prefix + "input_layernorm", width),
        query_key_value=reader.linear(
            attention,
            {"q_proj": spec.query_width, "k_proj": spec.kv_width, "v_proj": spec.kv_width},
            width,
        ),
        attention_output=reader.linear(attention, {"o_proj": width}, spec.query_width),
        mlp_norm=reader.norm(prefix + before_mlp, width),
        gate_up=reader.linear(
            prefix + "mlp.",
            {"gate_proj": spec.intermediate_size, "up_proj": spec.intermediate_size},
            width,
        ),
        down=reader.linear(prefix + "mlp.", {"down_proj": width}, spec.intermediate_size),
        query_norm=reader.optional_norm(attention + "q_norm", spec.head_size),
        key_norm=reader.optional_norm(attention + "k_norm", spec.head_size),
        attention_output_norm=(
            reader.norm(prefix + "post_attention_layernorm", width) if sandwich else None
        ),
        mlp_output_norm=(
            reader.norm(prefix + "post_feedforward_layernorm", width) if sandwich else None
        ),
    )


def _place_layer(layer: LayerWeights, to_device: Callable[[Tensor], Tensor]) -> LayerWeights:
    placed: dict[str, Any] = {}
    for item in dataclasses.fields(layer):
        value = getattr(layer, item.name)
        if isinstance(value, Linear):
            linear = _placed(value, to_device)
            skips = item.name in ("gate_up", "down") and linear.weight.is_cuda
            placed[item.name] = in_channel_major(linear) if skips else linear
        else:
            placed[item.name] = None if value is None else to_device(value)
    placed["down_norms"] = placed["down"].weight.float().norm(dim=1)
    return LayerWeights(**placed)


def _each_linear(layer: LayerWeights, change: Callable[[Linear], Linear]) -> LayerWeights:
    linears: dict[str, Any] = {
        item.name: change(value)
        for item in dataclasses.fields(layer)
        if isinstance(value := getattr(layer, item.name), Linear)
    }
    return dataclasses.replace(layer, **linears)


def _placed(linear: Linear, to_device: Callable[[Tensor], Tensor]) -> Linear:
    bias = None if linear.bias is None else to_device(linear.bias)
    return Linear(to_device(linear.weight), bias, blocks=linear.blocks)


def _refuse_leftovers(names: set[str]) -> None:
    # Old checkpoints carry the rotary frequencies, which are recomputed.
    unknown = sorted(name for name in names if not name.endswith("rotary_emb.inv_freq"))
    if unknown:
        raise ModelLoadError(
            f"the weights hold {len(unknown)} tensors this family does not have, "
            f"such as {unknown[0]!r}; refusing to ignore them"
        )
