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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.head_preview import PREVIEW_BITS
from kernels.page_scorers import PagesToScore
from sol_core.actions import DENSE, MAX_BITS, PAPER, Action, ActionGrid, Budget, Mechanisms
from sol_core.events import StepCost
from sol_core.models.spec import ModelSpec, WeightBytes
from sol_core.models.step.plan import mlp_channels, pages_kept

if TYPE_CHECKING:
    from sol_core.decoding.loop import DecodeStep
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

    @classmethod
    def of(cls, lm: FrozenLM, grid: ActionGrid) -> CostModel:
        """Costs of a loaded model's steps under a grid."""
        size = lm.dtype.itemsize
        return cls(lm.spec, lm.weight_bytes, size, grid.page_size, grid.mechanisms)

    def decode_step(
        self,
        action: Action | Budget,
        cached_tokens: int,
        *,
        tokens_read: float | None = None,
        observed: bool = False,
    ) -> StepCost:
        """One decode step that attends over ``cached_tokens`` (the new one included).

        Args:
            action: of the step, or a mean spend.
            tokens_read: cached tokens whose keys and values were read, summed over layers and
                KV heads. None counts what the action allows, with the heads of a group on the
                same pages: exact where a group chooses together, else too few.
            observed: the step also scored the pages for a policy, as it does when it is dense.
        """
        spec, weights = self.spec, self.weights
        projections = spec.hidden_size * (2 * spec.query_width + 2 * spec.kv_width)
        flops, cached = 0.0, 0.0
        for window, layers in Counter(spec.windows).items():
            visible = min(cached_tokens, window or cached_tokens)
            layer = self._attention(action, visible, observed=observed, exact=tokens_read)
            flops, cached = flops + layers * layer[0], cached + layers * layer[1]
        if tokens_read is not None:
            flops += 4.0 * spec.query_width * tokens_read / spec.num_kv_heads
            cached += 2.0 * spec.head_size * tokens_read * self.bytes_per_cached
        entering, inner = mlp_channels(action, spec, self.mechanisms)
        gate_up = spec.num_layers * 2 * spec.intermediate_size * entering
        down = spec.num_layers * spec.hidden_size * inner
        head, projected = spec.hidden_size * spec.vocab_size, spec.num_layers * projections
        saved = self.head_saving(action)
        bit_operations = MAX_BITS * (
            projected * weights.attention.bits
            + flops / 2 * 8 * self.bytes_per_cached
            + head * (PREVIEW_BITS if saved else weights.head.bits)
        )
        bits = action.bit_width
        if self.mechanisms.quant_block:
            bits = min(MAX_BITS, bits + SCALE_BITS / self.mechanisms.quant_block)
        bit_operations += bits * weights.gate_up.bits * (gate_up + down)
        return StepCost(
            attention_flops=2.0 * projected + flops,
            mlp_flops=2.0 * (gate_up + down),
            head_flops=2.0 * head,
            attention_bytes=weights.attention.nbytes + cached,
            mlp_bytes=weights.gate_up.read(entering / spec.hidden_size)
            + weights.down.read(inner / spec.intermediate_size),
            head_bytes=weights.head.nbytes - saved,
            bit_operations=float(bit_operations),
        )

    def taken(self, step: DecodeStep, row: int) -> StepCost:
        """Cost of one row of a step without its policy's network, by the tokens that it read where
        they are known."""
        action, cached, read = step.actions[row], step.cached_tokens[row], step.tokens_read
        tokens_read = None if read is None else read[row]
        observed = step.policy_reads[row].scores_pages
        return self.decode_step(action, cached, tokens_read=tokens_read, observed=observed)

    def head_saving(self, action: Action | Budget) -> float:
        """Bytes of the head that a step does not read because it previews it."""
        preview = self.weights.preview
        if preview is None or self.mechanisms.head != "preview" or action.is_dense:
            return 0.0
        return self.weights.head.nbytes - preview

    def prefill(self, new_tokens: int, cached_before: int = 0) -> StepCost:
        """A dense pass over several tokens: weights are read once, no logits."""
        if new_tokens == 0:
            return StepCost()
        spec = self.spec
        first = self.decode_step(DENSE, cached_before + 1)
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
            attention_bytes=self.decode_step(DENSE, cached_before + new_tokens).attention_bytes,
            mlp_bytes=first.mlp_bytes,
        )

    def page_scores(self, visible: int) -> tuple[float, float]:
        """FLOPs and bytes of one layer's page scores."""
        spec, pages = self.spec, -(-visible // self.page_size)
        widths = spec.query_width, spec.kv_width, spec.num_kv_heads
        work = PagesToScore(*widths, visible, pages, self.bytes_per_cached)
        return self.mechanisms.scorer.cost(work)

    def _attention(
        self, action: Action | Budget, visible: int, *, observed: bool, exact: float | None
    ) -> tuple[float, float]:
        """FLOPs and bytes of one layer's page scores, and of its keys and values unless it is
        known exactly which were read."""
        spec, pages = self.spec, -(-visible // self.page_size)
        kept = pages_kept(action.keep_fraction, visible, self.page_size)
        flops = read = 0.0
        if exact is None:
            tokens = min(visible, kept * self.page_size)
            flops = 4.0 * spec.query_width * tokens
            read = 2.0 * spec.kv_width * tokens * self.bytes_per_cached
        chooses = action.keep_fraction < 1 if self.mechanisms.by_need else kept < pages
        if not chooses and not observed:
            return flops, read
        scoring_flops, scoring_read = self.page_scores(visible)
        return flops + scoring_flops, read + scoring_read


class StepBytes:
    """``CostModel.decode_step(...).bytes_read``, quick enough to be asked at every step."""

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        self._known: dict[tuple[Action | Budget, int, bool, bool], float] = {}
        self._weights: dict[tuple[float, bool], float] = {}  # by share of the channels, and dense
        first, second = (costs.decode_step(DENSE, 1, tokens_read=n).bytes_read for n in (0.0, 1.0))
        self._per_token = second - first  # keys and values of one head
        self._windows = tuple(Counter(costs.spec.windows).items())
        self._by_need = costs.mechanisms.by_need

    def dense(self, cached_tokens: int) -> float:
        """Bytes of a dense step that attends over ``cached_tokens``, its own included."""
        seen = sum(layers * visible for visible, layers in self._seen(cached_tokens))
        return self._of_weights(DENSE) + self._per_token * self._costs.spec.num_kv_heads * seen

    def of(
        self,
        action: Action | Budget,
        cached_tokens: int,
        tokens_read: float | None = None,
        *,
        observed: bool = False,
    ) -> float:
        """Bytes of one step that attends over ``cached_tokens``, its own included."""
        if tokens_read is not None and self._by_need:
            read = self._of_weights(action) + self._per_token * tokens_read
            if observed or action.keep_fraction < 1:
                for visible, layers in self._seen(cached_tokens):
                    read += layers * self._costs.page_scores(visible)[1]
            return read
        key = (action, cached_tokens, tokens_read is not None, observed)
        if key not in self._known:
            self._known[key] = self._costs.decode_step(
                action,
                cached_tokens,
                tokens_read=None if tokens_read is None else 0.0,
                observed=observed,
            ).bytes_read
        return self._known[key] + self._per_token * (tokens_read or 0.0)

    def share(
        self, action: Action | Budget, cached_tokens: int, tokens_read: float | None = None
    ) -> float:
        """``of`` as a share of a dense step's bytes."""
        return self.of(action, cached_tokens, tokens_read) / self.dense(cached_tokens)

    def _seen(self, cached_tokens: int) -> list[tuple[int, int]]:
        """Tokens that layers attend over, and how many layers they are."""
        return [(min(cached_tokens, w or cached_tokens), layers) for w, layers in self._windows]

    def _of_weights(self, action: Action | Budget) -> float:
        key = action.channel_keep_ratio, action.is_dense
        if key not in self._weights:
            alike = DENSE if key[1] else Action(channel_keep_ratio=key[0], bit_width=MAX_BITS - 1)
            self._weights[key] = self._costs.decode_step(alike, 1, tokens_read=0.0).bytes_read
        return self._weights[key]
