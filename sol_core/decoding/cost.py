"""Cost of a decode step: FLOPs, bit operations and bytes read, computed from shapes and action.

A *computed* figure for one row, checked against the bytes that a step really touches
(``tests/sol_core/decoding/test_touched_bytes.py``). It counts matrix products (a multiply and an
add are 2 FLOPs) and reads of weights as they are stored, of the KV cache, of page bounds or 4-bit
keys, and of the policy; writes, activations and elementwise work are under 1 % of a step.
Activation bits change no byte. They change *bit operations*, multiply-adds × weight bits ×
activation bits, the measure of mixed-precision work (BOPs); with a scale per block of channels
(``quant_block``), an activation has its part of a 16-bit scale on top, half a bit of 32 channels.
Side rows are not counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

from kernels.head_preview import PREVIEW_BITS, RESCORED
from kernels.page_scorers import PagesToScore
from sol_core.actions import DENSE, MAX_BITS, PAPER, Action, ActionGrid, Budget, Mechanisms
from sol_core.decoding.batch_scheduling import UNKNOWN_READS, StepReads
from sol_core.events import StepCost
from sol_core.models.spec import ModelSpec, WeightBytes
from sol_core.models.step.plan import channels_kept, pages_kept

if TYPE_CHECKING:
    from sol_core.models import FrozenLM


SCALE_BITS = 16  # of a block's scale, as ggml's Q8_0 stores it


@dataclass(frozen=True, slots=True)
class CostModel:
    """Costs of one model's steps on one device."""

    spec: ModelSpec  # its shapes
    weights: WeightBytes  # bytes of its matrices as a step reads them
    bytes_per_cached: int  # of the KV cache's dtype
    page_size: int = 8  # tokens per page
    mechanisms: Mechanisms = PAPER  # ways in which a step finds what it may skip, and skips it
    # Computed costs: of dense steps by cached tokens, of weights by the parts that an action reads.
    _dense: dict[int, StepCost] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_weights: dict[tuple[Any, ...], StepCost] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, lm: FrozenLM, grid: ActionGrid) -> CostModel:
        """Costs of a loaded model's steps under a grid."""
        size = lm.dtype.itemsize
        return cls(lm.spec, lm.weight_bytes, size, grid.page_size, grid.mechanisms)

    def decode_step(
        self, action: Action | Budget, cached_tokens: int, reads: StepReads = UNKNOWN_READS
    ) -> StepCost:
        """One row's decode step that attends over ``cached_tokens`` (the new one included).

        Args:
            action: of the step, or a mean spend.
            reads: what is known of it, and of its policy. Unknown, cached tokens are those that
                the action allows, with the heads of a group on the same pages: exact where a group
                chooses together, else too few; of a previewed head it is the mean.
        """
        if isinstance(action, Action) and (action.keep_by_layer or action.channels_by_layer):
            action.check_layers(self.spec.num_layers)
        flops, num_bytes = 0.0, 0.0
        keeps = action.keep_by_layer or repeat(action.keep_fraction)
        kinds = Counter(zip(self.spec.windows, keeps, strict=False))  # of layers, and how many
        for (window, keep), layers in kinds.items():
            visible = min(cached_tokens, window or cached_tokens)
            layer = self._attention(keep, visible, reads)
            flops, num_bytes = flops + layers * layer[0], num_bytes + layers * layer[1]
        if (tokens := reads.tokens) is not None:
            flops += 4.0 * self.spec.query_width * tokens / self.spec.num_kv_heads
            num_bytes += 2.0 * self.spec.head_size * tokens * self.bytes_per_cached
        ratios = action.channels_by_layer or action.channel_keep_ratio
        key = ratios, action.bit_width, action.is_dense
        if key not in self._of_weights:  # few actions differ
            self._of_weights[key] = self._weights_cost(action)
        weights, policy = self._of_weights[key], reads.policy
        return StepCost(
            attention_flops=weights.attention_flops + flops,
            mlp_flops=weights.mlp_flops,
            head_flops=weights.head_flops,
            policy_flops=policy.policy_flops,
            attention_bytes=weights.attention_bytes + num_bytes,
            mlp_bytes=weights.mlp_bytes,
            head_bytes=self.weights.head.nbytes - self.head_bytes_saved(action, reads.head_rows),
            policy_bytes=policy.policy_bytes,
            bit_operations=weights.bit_operations
            + MAX_BITS * flops * 4 * self.bytes_per_cached
            + policy.bit_operations,
        )

    def dense_step(self, cached_tokens: int) -> StepCost:
        """Cost of a dense step that attends over ``cached_tokens``, its own included."""
        if cached_tokens not in self._dense:
            self._dense[cached_tokens] = self.decode_step(DENSE, cached_tokens)
        return self._dense[cached_tokens]

    def bytes_share(
        self, action: Action | Budget, cached_tokens: int, reads: StepReads = UNKNOWN_READS
    ) -> float:
        """Bytes of a row's step as a share of a dense step's."""
        read = self.decode_step(action, cached_tokens, reads).bytes_read
        return read / self.dense_step(cached_tokens).bytes_read

    def head_bytes_saved(self, action: Action | Budget, head_rows: float | None = None) -> float:
        """Bytes of the head that a step does not read because it previews it; below 0 for one that
        then read all of it."""
        if self.weights.preview is None or self.mechanisms.head != "preview" or action.is_dense:
            return 0.0
        first, row = self.weights.preview
        exact = (RESCORED if head_rows is None else head_rows) * row
        return self.weights.head.nbytes - first - exact

    def prefill(self, new_tokens: int, cached_before: int = 0) -> StepCost:
        """A dense pass over several tokens: weights are read once, no logits."""
        if new_tokens == 0:
            return StepCost()
        spec = self.spec
        first = self.dense_step(cached_before + 1)
        attention_flops = 0.0
        projections = 2.0 * spec.num_layers * spec.hidden_size
        projections *= 2 * spec.query_width + 2 * spec.kv_width
        for window in spec.windows:
            seen = sum(
                min(length, window or length)
                for length in range(cached_before + 1, cached_before + new_tokens + 1)
            )
            attention_flops += 4.0 * spec.query_width * seen
        return StepCost(
            attention_flops=projections * new_tokens + attention_flops,
            mlp_flops=first.mlp_flops * new_tokens,
            attention_bytes=self.dense_step(cached_before + new_tokens).attention_bytes,
            mlp_bytes=first.mlp_bytes,
        )

    def _attention(self, keep: float, visible: int, reads: StepReads) -> tuple[float, float]:
        """FLOPs and bytes of one layer's page scores, and of its keys and values unless it is
        known exactly which were read."""
        spec, size = self.spec, self.page_size
        pages = -(-visible // size)
        query_width, kv_width = spec.query_width, spec.kv_width
        flops = read = 0.0
        if reads.tokens is None:
            tokens = min(visible, pages_kept(keep, visible, size) * size) if keep < 1 else visible
            flops = 4.0 * query_width * tokens
            read = 2.0 * kv_width * tokens * self.bytes_per_cached
        by_group = self.mechanisms.chooses_by_group
        chooses = keep < 1 and (by_group or pages_kept(keep, visible, size) < pages)
        if not chooses and not reads.observed:
            return flops, read
        widths = query_width, kv_width, spec.num_kv_heads
        work = PagesToScore(*widths, visible, pages, self.bytes_per_cached)
        scoring_flops, scoring_read = self.mechanisms.scorer.cost(work)
        return flops + scoring_flops, read + scoring_read

    def _weights_cost(self, action: Action | Budget) -> StepCost:
        """A step's cost without the bytes of cache and head."""
        spec, weights = self.spec, self.weights
        projections = spec.hidden_size * (2 * spec.query_width + 2 * spec.kv_width)
        ratios = action.channels_by_layer or (action.channel_keep_ratio,) * spec.num_layers
        sizes = spec.hidden_size, spec.intermediate_size
        pairs = channels_kept(ratios, sizes, self.mechanisms)
        entering, inner = (sum(side) for side in zip(*pairs, strict=True))  # of all layers
        gate_up, down = 2 * spec.intermediate_size * entering, spec.hidden_size * inner
        head, projected = spec.hidden_size * spec.vocab_size, spec.num_layers * projections
        saved = self.head_bytes_saved(action)
        bits = action.bit_width
        if self.mechanisms.quant_block:
            bits = min(MAX_BITS, bits + SCALE_BITS / self.mechanisms.quant_block)
        outside = projected * weights.attention.bits
        outside += head * (PREVIEW_BITS if saved else weights.head.bits)
        return StepCost(
            attention_flops=2.0 * projected,
            mlp_flops=2.0 * (gate_up + down),
            head_flops=2.0 * head,
            attention_bytes=weights.attention.nbytes,
            mlp_bytes=weights.gate_up.read(entering / (spec.num_layers * spec.hidden_size))
            + weights.down.read(inner / (spec.num_layers * spec.intermediate_size)),
            bit_operations=float(
                MAX_BITS * outside + bits * weights.gate_up.bits * (gate_up + down)
            ),
        )
