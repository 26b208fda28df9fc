"""Architecture of a decoder-only transformer with gated MLPs, and its weights' bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Activation = Literal["silu", "gelu_tanh"]

# Fields added later are None if they do not apply, and then not part of a model's fingerprint, so
# policies stay bound to the models that they were trained for.


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding (arXiv:2104.09864) and its scaling."""

    theta: float = 10_000.0
    # "linear": positions divided by ``factor``; "llama3": wavelengths above ``original_positions /
    # low_frequency`` divided by ``factor``, those below ``/ high_frequency`` kept, between
    # interpolated; "yarn": arXiv:2309.00071; "longrope": arXiv:2402.13753; "none": not rotated.
    kind: Literal["default", "linear", "llama3", "yarn", "longrope", "none"] = "default"
    factor: float = 1.0
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_positions: int = 8192
    rotated: int | None = None  # number of leading channels that are rotated; None is all
    ramp: tuple[float, float] | None = None  # YaRN: last pair kept, first pair fully scaled
    divisors: tuple[float, ...] | None = None  # LongRoPE: divisor of each pair's frequency
    amplitude: float | None = None  # factor on rotated channels; None is 1


@dataclass(frozen=True)
class ModelSpec:
    """Shapes and switches of a decoder-only transformer with gated MLPs."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    max_positions: int  # context window
    norm_eps: float  # relative to the decoder's residual stream, see ``stream_scale``
    activation: Activation
    attention_scale: float  # factor on query·key
    windows: tuple[int | None, ...]  # per layer, attention window in tokens; None is all
    ropes: tuple[RopeSpec, ...]  # per layer, its rotary embedding
    tied_head: bool
    norm_offset: float = 0.0  # added to every norm weight (Gemma stores weight − 1)
    embedding_scale: float = 1.0  # factor on token embeddings, rounded to their dtype
    stream_scale: float | None = None  # factor on the residual stream
    attention_cap: float | None = None  # soft cap on scores
    logit_cap: float | None = None  # soft cap on logits
    logit_scale: float | None = None  # factor on logits
    stored_head_size: int | None = None

    @property
    def middle_layers(self) -> tuple[int, int]:
        """Return the layers a third and two thirds up, after which a policy sees the stream."""
        return self.num_layers // 3, 2 * self.num_layers // 3

    @cached_property
    def kv_width(self) -> int:
        return self.num_kv_heads * self.head_size

    @cached_property
    def query_width(self) -> int:
        return self.num_heads * self.head_size


def plain_llama(max_positions: int, **sizes: int) -> ModelSpec:
    """Make a Llama's spec with a tied head and unscaled positions; ``sizes`` are its sizes."""
    layers = sizes["num_layers"]
    return ModelSpec(
        family="llama",
        max_positions=max_positions,
        norm_eps=1e-5,
        activation="silu",
        attention_scale=sizes["head_size"] ** -0.5,
        windows=(None,) * layers,
        ropes=(RopeSpec(),) * layers,
        tied_head=True,
        **sizes,
    )


@dataclass(frozen=True)
class MatrixBytes:
    """Bytes of a matrix, or of one matrix in all layers."""

    always: float  # read by every step: scales and minima of quantised blocks, norms, biases
    by_channel: float  # input channels' bytes; pruned channels are not read
    bits: int  # per weight

    def read(self, channels_kept: float) -> float:
        """Return the bytes that a step reads with this fraction of the channels."""
        return self.always + channels_kept * self.by_channel

    @cached_property
    def nbytes(self) -> float:
        return self.always + self.by_channel


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """Bytes of a model's stored weights, by matrix."""

    attention: MatrixBytes  # projections of queries, keys, values and output
    gate_up: MatrixBytes
    down: MatrixBytes  # its input channels are the MLP's inner ones
    head: MatrixBytes
    preview: tuple[float, float] | None = None  # the head's ``preview_bytes``

    @classmethod
    def unpacked(cls, spec: ModelSpec, bytes_per_weight: int) -> WeightBytes:
        """Return the bytes of weights of one dtype, without norms and biases."""

        def matrix(size: int) -> MatrixBytes:
            return MatrixBytes(0.0, float(size * bytes_per_weight), 8 * bytes_per_weight)

        layers, width = spec.num_layers, spec.hidden_size
        return cls(
            attention=matrix(layers * width * (2 * spec.query_width + 2 * spec.kv_width)),
            gate_up=matrix(layers * width * 2 * spec.intermediate_size),
            down=matrix(layers * width * spec.intermediate_size),
            head=matrix(width * spec.vocab_size),
        )
