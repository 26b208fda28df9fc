"""Models of random weights: any shape without a file, for measurements of speed alone."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args

import torch

from kernels.gpu.triton_support import runs_triton
from kernels.quantised_weights import BLOCK, KINDS, GgufBlocks, unpack_blocks
from sol_core.errors import ConfigError
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.spec import plain_llama
from sol_core.models.weights import LayerWeights, Linear, ModelWeights

Storage = Literal["bf16", "fp32", "q4"]  # q4: layers in Q4_1 blocks, the head in Q8_0
STORAGES: tuple[str, ...] = get_args(Storage)


class ModelShape(NamedTuple):
    """Sizes on which a step's cost depends."""

    name: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self._fields[1:], self[1:], strict=True))


MODELS = {
    shape.name: shape
    for shape in (
        ModelShape("SmolLM2-135M", 49_152, 576, 1536, 30, 9, 3, 64),
        ModelShape("Llama-3.2-1B", 128_256, 2048, 8192, 16, 32, 8, 64),
        ModelShape("Llama-3.1-8B", 128_256, 4096, 14_336, 32, 32, 8, 128),
    )
}
# 629 million weights: of a model that a laptop runs well.
SHAPES = {"0.6B": ModelShape("0.6B", 49_152, 1536, 6144, 16, 24, 8, 64), **MODELS}
# Of the sizes, in their order.
_KEYS = ("vocab", "hidden", "intermediate", "layers", "heads", "kv_heads", "head_size")
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "q4": torch.bfloat16}
_STD = 0.02


def shape_from_text(text: str) -> ModelShape:
    """A shape by name, or from sizes as in ``layers=16,hidden=1536,…``."""
    for name, shape in SHAPES.items():
        if name.lower() == text.strip().lower():
            return shape
    sizes = dict(re.findall(r"(\w+)=(\d+)", text))
    if set(sizes) != set(_KEYS) or text.count("=") != len(_KEYS):
        raise ConfigError(
            f"shape must be one of {', '.join(SHAPES)}, or sizes such as "
            "layers=16,hidden=1536,intermediate=6144,heads=24,kv_heads=8,head_size=64,vocab=49152, "
            f"got {text!r}"
        )
    shape = ModelShape(text.strip(), *(int(sizes[key]) for key in _KEYS))
    if min(shape.sizes.values()) < 1 or shape.num_heads % shape.num_kv_heads or shape.head_size % 8:
        raise ConfigError(
            "sizes must be 1 or more, heads a multiple of kv_heads and head_size of 8, got "
            f"{text!r}"
        )
    return shape


def check_shape(text: str, storage: str) -> None:
    """Hold a shape and its storage to what can be made. Raises: ConfigError."""
    shape = shape_from_text(text)
    if storage not in STORAGES:
        raise ConfigError(f"storage must be one of {', '.join(STORAGES)}, got {storage!r}")
    for size in (shape.hidden_size, shape.intermediate_size, shape.num_heads * shape.head_size):
        if storage == "q4" and size % BLOCK:
            raise ConfigError(
                f"q4 blocks are of {BLOCK} input channels: sizes must be multiples, got {size}"
            )


def random_model(
    shape: ModelShape,
    max_positions: int,
    *,
    storage: Storage = "bf16",  # number format of the weights; "q4" is for a CPU
    device: str = "cpu",  # where the weights are
    dtype: torch.dtype | None = None,  # of the weights, where it is not the storage's
) -> FrozenLM:
    """A Llama of random weights, its head tied to the embedding."""
    dtype = dtype or _DTYPES[storage]
    spec = plain_llama(max_positions, **shape.sizes)
    width, inner = shape.hidden_size, shape.intermediate_size
    norm = torch.ones(width, device=device)
    on_gpu = runs_triton(norm)  # or what it would launch is noted

    def linear(outputs: int, inputs: int, kind: str, *, in_major: bool = False) -> Linear:
        """A matrix [in, out] as loaded ones lie; blocks are of this kind."""
        if storage == "q4":
            blocks = _random_blocks(outputs, inputs, kind)
            return Linear(unpack_blocks(blocks).to(dtype).t(), blocks=blocks)
        in_major = in_major or dtype == torch.float32
        dims = (inputs, outputs) if in_major else (outputs, inputs)
        weight = torch.empty(dims, dtype=dtype, device=device).normal_(std=_STD)
        return Linear(weight if in_major else weight.t())

    layers = tuple(
        LayerWeights(
            attention_norm=norm,
            query_key_value=linear(spec.query_width + 2 * spec.kv_width, width, "Q4_1"),
            attention_output=linear(width, spec.query_width, "Q4_1"),
            mlp_norm=norm,
            gate_up=linear(2 * inner, width, "Q4_1", in_major=on_gpu),
            down=linear(width, inner, "Q4_1", in_major=on_gpu),
            down_norms=torch.ones(inner, device=device),
        )
        for _ in range(shape.num_layers)
    )
    head = linear(shape.vocab_size, width, "Q8_0")
    return FrozenLM(spec, ModelWeights(head.weight.t(), layers, norm, head))


def random_cache(lm: FrozenLM, context: int, room: int = 0) -> KVCache:
    """A cache of one row that holds so many random tokens, and room for more."""
    cache, spec = lm.new_cache(1, context + room), lm.spec
    shape = (1, spec.num_kv_heads, context, spec.head_size)
    for layer in range(spec.num_layers):
        keys, values = (torch.empty(shape, device=lm.device).normal_() for _ in range(2))
        cache.write(layer, keys, values)
    cache.advance(context)
    return cache


def _random_blocks(outputs: int, inputs: int, kind: str) -> GgufBlocks:
    """Codes of all values alike, around 0 with a standard deviation of ``_STD``."""
    bits, size = KINDS[kind]
    data = torch.empty(outputs, inputs // BLOCK, size, dtype=torch.uint8).random_()
    scale = _STD * 12**0.5 / 2**bits  # of uniform codes
    head = [scale, scale * (0.5 - 2 ** (bits - 1))] if kind == "Q4_1" else [scale]
    halves = torch.tensor(head, dtype=torch.float16).view(torch.uint8)
    data[..., : len(halves)] = halves
    return GgufBlocks(kind, data)
