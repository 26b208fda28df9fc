"""Bytes of the weights that a decode step of one row reads, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass

from sol_core.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class MatrixBytes:
    """Bytes of a matrix, or of the same matrix of all layers."""

    always: float  # read by every step: scales and minima of quantised blocks, norms, biases
    by_channel: float  # of the input channels; those of a pruned channel are not read
    bits: int  # of a weight

    def read(self, share: float) -> float:
        return self.always + share * self.by_channel

    @property
    def nbytes(self) -> float:
        return self.always + self.by_channel


@dataclass(frozen=True, slots=True)
class WeightBytes:
    attention: MatrixBytes  # of the projections of queries, keys, values and output
    gate_up: MatrixBytes  # gate_up, down: of the MLP
    down: MatrixBytes  # its input channels are the inner ones
    head: MatrixBytes  # of the vocabulary
    preview: float | None = None  # of the vocabulary, where a step may preview it

    @classmethod
    def unpacked(cls, spec: ModelSpec, bytes_per_weight: int) -> WeightBytes:
        """Weights of one dtype, without norms and biases."""

        def matrix(size: int) -> MatrixBytes:
            return MatrixBytes(0.0, float(size * bytes_per_weight), 8 * bytes_per_weight)

        layers, width = spec.num_layers, spec.hidden_size
        return cls(
            attention=matrix(layers * width * (2 * spec.query_width + 2 * spec.kv_width)),
            gate_up=matrix(layers * width * 2 * spec.intermediate_size),
            down=matrix(layers * width * spec.intermediate_size),
            head=matrix(width * spec.vocab_size),
        )

    @property
    def nbytes(self) -> float:
        """Bytes that a dense step reads."""
        parts = (self.attention, self.gate_up, self.down, self.head)
        return sum(part.nbytes for part in parts)

    @property
    def words(self) -> str:
        """Storage in words: "4-bit blocks, head in 8 bits" or "16 bits a weight"."""
        layers, head = self.gate_up.bits, self.head.bits
        if layers < 16:
            return f"{layers}-bit blocks" + ("" if head == layers else f", head in {head} bits")
        return f"{layers} bits a weight"
