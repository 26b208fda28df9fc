"""Model weights, read from safetensors and laid out for decoding, addressed as [in, out].

fp32 is in-channel-major in memory: one-row products read 16–22 GB/s instead of 11, and a pruned
channel is one row. 16-bit types are out-channel-major, where bf16 products are fastest, except for
the MLP on CUDA, whose kernels skip pruned channels.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.linear import linear, pack_weight, packed_product
from kernels.quantised_weights import KINDS, GgufBlocks, unpack_blocks
from sol_core.errors import ModelLoadError
from sol_core.files.paths import BLOCKS_NAME
from sol_core.models.families.layer_names import head_channels, layer_names, spread_heads
from sol_core.models.spec import ModelSpec


def read_blocks(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, GgufBlocks]:
    """Read a model folder's quantised blocks by checkpoint name; empty without the file."""
    if not (folder / BLOCKS_NAME).is_file():
        return {}
    with _opened(folder / BLOCKS_NAME) as (file, kinds):
        blocks_by_name = {
            name: GgufBlocks(kind, file.get_tensor(name)) for name, kind in kinds.items()
        }
        for name, blocks in blocks_by_name.items():
            ends = unpack_blocks(blocks._replace(data=blocks.data[[0, -1]]))
            if not torch.equal(ends, tensors[name][[0, -1]].float()):
                raise ValueError(f"its {name} is not the model's")
        return blocks_by_name


def block_kinds(folder: Path) -> dict[str, str]:
    """Return the blocks' kinds without reading them. Raises: ModelLoadError."""
    if not (folder / BLOCKS_NAME).is_file():
        return {}
    with _opened(folder / BLOCKS_NAME) as (_, kinds):
        return kinds


def common_bits(kinds: Mapping[str, str]) -> int | None:
    """Return the bits that all layers' blocks have; None if they differ or are not blocks."""
    bits = {
        KINDS[kind][0] if kind in KINDS else None
        for name, kind in kinds.items()
        if ".layers." in name
    }
    return bits.pop() if len(bits) == 1 else None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file, json.loads(file.metadata()["kinds"])
    except (SafetensorError, OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise ModelLoadError(
            f"{path} is damaged or of other weights ({error}): delete it, and steps read the "
            "unpacked weights"
        ) from error


def join_blocks(blocks: Mapping[str, GgufBlocks], names: list[str]) -> GgufBlocks | None:
    """Concatenate matrices if all are present and of one kind."""
    parts = [blocks[name] for name in names if name in blocks]
    if len(parts) < len(names) or len({tensor.kind for tensor in parts}) != 1:
        return None
    return GgufBlocks(parts[0].kind, torch.cat([tensor.data for tensor in parts]))


@dataclass(frozen=True, slots=True)
class Linear:
    """An affine map: weight [in, out], bias [out], and optional other forms of the weight."""

    weight: Tensor
    bias: Tensor | None = None
    packed: Tensor | None = None  # the weight packed for products of many rows
    blocks: GgufBlocks | None = None  # the weight as its file stores it

    def __call__(self, inputs: Tensor) -> Tensor:
        """Map [..., in] of any float dtype to [..., out] in the weight's dtype or fp32."""
        if self.packed is not None:
            return packed_product(inputs, self.packed, self.bias)
        product = linear(inputs, self.weight)
        return product if self.bias is None else product + self.bias


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """A layer's weights; norms are fp32 with their offset, [C], per head [D] or all heads [H·D]."""

    attention_norm: Tensor | None
    query_key_value: Linear  # [C, (H + 2·Hkv)·D]
    attention_output: Linear  # [H·D, C]
    mlp_norm: Tensor | None
    gate_up: Linear  # [C, 2·I], gate first
    down: Linear  # [I, C]
    query_norm: Tensor | None = None
    key_norm: Tensor | None = None
    attention_output_norm: Tensor | None = None
    mlp_output_norm: Tensor | None = None
    down_norms: Tensor | None = None  # [I] fp32, Euclidean norms of down's rows

    @property
    def matrices(self) -> tuple[Linear, Linear, Linear, Linear]:
        """Return the matrices in the order of their use in a step."""
        return self.query_key_value, self.attention_output, self.gate_up, self.down


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """A model's weights; a tied ``head`` shares the embedding's memory."""

    embedding: Tensor  # [V, C]
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: Linear  # [C, V]

    def matrices(self) -> Iterator[Linear]:
        for layer in self.layers:
            yield from layer.matrices
        yield self.head


@dataclass(slots=True)
class _Reader:
    """Takes tensors by name, checks and moves them, and tracks which were used."""

    tensors: Mapping[str, Tensor]
    spec: ModelSpec
    dtype: torch.dtype
    to_device: Callable[[Tensor], Tensor]
    blocks: Mapping[str, GgufBlocks]
    used: set[str] = field(default_factory=set)

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
        return self.to_device(self.take(name + ".weight", width).float() + self.spec.norm_offset)

    def linear(
        self, prefix: str, names: dict[str, int], in_size: int, *, heads: int | None = None
    ) -> Linear:
        """Concatenate matrices; with a bias if any has one (zero for the others)."""
        weights, biases = [], []
        has_bias = any(f"{prefix}{name}.bias" in self.tensors for name in names)
        for name, out in names.items():
            weights.append(self.take(f"{prefix}{name}.weight", out, in_size).to(self.dtype))
            given = f"{prefix}{name}.bias" in self.tensors
            bias_of = self.take(f"{prefix}{name}.bias", out) if given else torch.zeros(out)
            biases.append(bias_of.to(self.dtype))
        weight, bias = torch.cat(weights), torch.cat(biases) if has_bias else None
        blocks = None
        channels = None if heads is None else head_channels(self.spec)
        if channels is not None and heads is not None:
            stored = self.spec.stored_head_size or self.spec.head_size
            weight = spread_heads(weight, channels, stored, heads)
            if bias is not None and heads == 0:
                bias = spread_heads(bias, channels, stored, 0)
        else:
            blocks = join_blocks(self.blocks, [f"{prefix}{name}.weight" for name in names])
        bias = None if bias is None else self.to_device(bias)
        return Linear(self.to_device(_in_out_view(weight)), bias, blocks=blocks)


def _in_out_view(weight: Tensor) -> Tensor:
    """Address [out, in] as [in, out], in the dtype's preferred layout."""
    return weight.t().contiguous() if weight.dtype == torch.float32 else weight.contiguous().t()


def in_channel_major(linear: Linear) -> Linear:
    """Lay each input channel's weights in one contiguous row."""
    return Linear(linear.weight.contiguous(), linear.bias)


def packed_for_many_rows(weights: ModelWeights, num_rows: int) -> ModelWeights:
    """Add a packed copy of each matrix if the CPU gains from it."""

    def pack(linear: Linear) -> Linear:
        return dataclasses.replace(linear, packed=pack_weight(linear.weight, num_rows))

    def packed(layer: LayerWeights) -> LayerWeights:
        names = ("query_key_value", "attention_output", "gate_up", "down")
        linears: dict[str, Any] = {name: pack(getattr(layer, name)) for name in names}
        return dataclasses.replace(layer, **linears)

    layers = tuple(map(packed, weights.layers))
    return dataclasses.replace(weights, layers=layers, head=pack(weights.head))


def arrange_weights(
    tensors: Mapping[str, Tensor],
    spec: ModelSpec,
    dtype: torch.dtype,
    to_device: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    blocks: Mapping[str, GgufBlocks] | None = None,
) -> ModelWeights:
    """Build the decoder's weights from Hugging Face names."""
    reader = _Reader(tensors, spec, dtype, to_device, blocks or {})
    embedding_name = "model.embed_tokens.weight"
    embedding = reader.take(embedding_name, spec.vocab_size, spec.hidden_size)
    layers = tuple(_layer(reader, f"model.layers.{i}.") for i in range(spec.num_layers))
    final_norm = reader.norm("model.norm", spec.hidden_size)
    # A separate head is used even if the config says that it is tied, as in transformers.
    is_tied = spec.tied_head and torch.equal(tensors.get("lm_head.weight", embedding), embedding)
    if not is_tied:
        head = reader.linear("", {"lm_head": spec.vocab_size}, spec.hidden_size)
        looked_up = to_device(embedding.to(dtype))
    else:
        reader.used.add("lm_head.weight")
        tied = join_blocks(reader.blocks, [embedding_name])
        head = Linear(to_device(_in_out_view(embedding.to(dtype))), blocks=tied)
        looked_up = head.weight.t()
    if head.blocks is not None:  # for a previewed head
        data = to_device(head.blocks.data)
        head = dataclasses.replace(head, blocks=head.blocks._replace(data=data))
    # Old checkpoints hold rotary frequencies, which are recomputed.
    left = [name for name in tensors if not name.endswith("rotary_emb.inv_freq")]
    if unknown := sorted(set(left) - reader.used):
        raise ModelLoadError(
            f"the weights hold {len(unknown)} tensors this family does not have, "
            f"such as {unknown[0]!r}; refusing to ignore them"
        )
    return ModelWeights(looked_up, layers, final_norm, head)


def _layer(reader: _Reader, prefix: str) -> LayerWeights:
    spec, names = reader.spec, layer_names(reader.spec.family)
    width, attention, mlp = spec.hidden_size, prefix + "self_attn.", prefix + "mlp."
    stored = spec.stored_head_size or spec.head_size
    query, key = spec.num_heads * stored, spec.num_kv_heads * stored

    def norm(name: str | None) -> Tensor | None:
        return None if name is None else reader.norm(prefix + name, width)

    def head_norm(name: str, all_heads: int) -> Tensor | None:
        size = {"head": stored, "all": all_heads, None: None}[names.query_key_norms]
        return None if size is None else reader.norm(attention + name, size)

    gate_up = reader.linear(mlp, _output_sizes(names.gate_up, [spec.intermediate_size] * 2), width)
    down = reader.linear(mlp, {"down_proj": width}, spec.intermediate_size)
    # On ZeroGPU, device is cuda while is_cuda is False.
    if down.weight.device.type == "cuda":
        gate_up, down = in_channel_major(gate_up), in_channel_major(down)
    return LayerWeights(
        attention_norm=norm(names.attention_norm),
        query_key_value=reader.linear(
            attention, _output_sizes(names.query_key_value, [query, key, key]), width, heads=0
        ),
        attention_output=reader.linear(attention, {"o_proj": width}, query, heads=1),
        mlp_norm=norm(names.mlp_norm),
        gate_up=gate_up,
        down=down,
        query_norm=head_norm("q_norm", query),
        key_norm=head_norm("k_norm", key),
        attention_output_norm=norm(names.attention_output_norm),
        mlp_output_norm=norm(names.mlp_output_norm),
        down_norms=down.weight.float().norm(dim=1),
    )


def _output_sizes(names: tuple[str, ...], sizes: list[int]) -> dict[str, int]:
    """Return output sizes by name; a single name stands for all of them."""
    return {names[0]: sum(sizes)} if len(names) == 1 else dict(zip(names, sizes, strict=True))
