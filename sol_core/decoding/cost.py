"""Cost of a row's decode step: FLOPs, bit operations and bytes read, from shapes and action.

Costs are *computed*; tests/sol_core/decoding/test_touched_bytes.py checks them against the bytes
that a step touches. They count matrix products (a multiply-add is 2 FLOPs) and reads of stored
weights, KV cache, page bounds or 4-bit keys, and the policy. Writes, activations and elementwise
operations, under 1 % of a step, are left out, and so are side rows. Activation bits change no
bytes, but *bit operations* (BOPs): multiply-adds × weight bits × activation bits. With a scale per
block of 32 channels (``quant_block``), its 16 bits add half a bit to each activation.
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


SCALE_BITS = 16  # bits of a block's scale, as in ggml's Q8_0


@dataclass(frozen=True, slots=True)
class CostModel:
    """Cost of the decode steps of one model on one device."""

    spec: ModelSpec
    weights: WeightBytes  # bytes of the matrices that a step reads
    bytes_per_cached: int  # bytes of a number in the KV cache
    page_size: int = 8  # tokens per page
    mechanisms: Mechanisms = PAPER
    # Memoised: cost of dense steps by cached tokens; cost of the weights by ratios and bits.
    _dense: dict[int, StepCost] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_weights: dict[tuple[Any, ...], StepCost] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, lm: FrozenLM, grid: ActionGrid) -> CostModel:
        """Make the cost model of a decoder under a grid."""
        size = lm.dtype.itemsize
        return cls(lm.spec, lm.weight_bytes, size, grid.page_size, grid.mechanisms)

    def decode_step(
        self, action: Action | Budget, cached_tokens: int, reads: StepReads = UNKNOWN_READS
    ) -> StepCost:
        """Compute one row's step that attends over ``cached_tokens``, the new token included.

        Args:
            action: the step's action, or a mean spend.
            reads: measured reads, with the policy's cost. Where unknown, tokens follow from the
                action as if the heads of a group read the same pages (a lower bound unless a group
                chooses together), and a previewed head reads its mean number of rows.
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
        """Compute a dense step that attends over ``cached_tokens``, the new token included."""
        if cached_tokens not in self._dense:
            self._dense[cached_tokens] = self.decode_step(DENSE, cached_tokens)
        return self._dense[cached_tokens]

    def bytes_share(
        self, action: Action | Budget, cached_tokens: int, reads: StepReads = UNKNOWN_READS
    ) -> float:
        """Bytes that a row's step reads as a share of the dense step's."""
        read = self.decode_step(action, cached_tokens, reads).bytes_read
        return read / self.dense_step(cached_tokens).bytes_read

    def head_bytes_saved(self, action: Action | Budget, head_rows: float | None = None) -> float:
        """Bytes that a preview saves at the head; negative if the step then reads all of it."""
        if self.weights.preview is None or self.mechanisms.head != "preview" or action.is_dense:
            return 0.0
        first, row = self.weights.preview
        exact = (RESCORED if head_rows is None else head_rows) * row
        return self.weights.head.nbytes - first - exact

    def prefill(self, new_tokens: int, cached_before: int = 0) -> StepCost:
        """Compute a prefill chunk: weights are read once, without logits."""
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
        """FLOPs and bytes of one layer's page scores and, unless measured, its keys and values."""
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
        """Compute a step's cost without the bytes of the cache and the head."""
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
