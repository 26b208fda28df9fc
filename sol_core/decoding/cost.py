"""Cost of a decode step: FLOPs and bytes read, computed from shapes and the action.

A *computed* figure: what hardware that skips what the action drops would do. Counted
are matrix products (a multiply and an add are 2 FLOPs) and the reads of weights, KV
cache and page bounds; elementwise work, writes and activations are left out (under
1 % of a step). Activation bits change neither count: they pay only on integer units,
which the net keep rate stands for. Side rows are measurement and are not counted. Heads
that share keys are taken to choose the same pages. Each chooses its own: at half the
attention three heads together read 62 to 65 % of the pages, measured (docs/decisions.md).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.page_scorers import PagesToScore
from sol_core.actions import DENSE, PAPER, Action, ActionGrid, Budget, Mechanisms, ceil_fraction
from sol_core.events import StepCost
from sol_core.models.spec import ModelSpec
from sol_core.models.step.plan import pages_kept

if TYPE_CHECKING:
    from sol_core.models import FrozenLM


@dataclass(frozen=True, slots=True)
class CostModel:
    """Costs for one model.

    Attributes:
        spec: its shapes.
        bytes_per_weight, bytes_per_cached: of the weights' and the KV cache's dtype.
        page_size: tokens per page.
        mechanisms: what a step reads to find out what it may skip, and what it skips.
    """

    spec: ModelSpec
    bytes_per_weight: int
    bytes_per_cached: int
    page_size: int = 8
    mechanisms: Mechanisms = PAPER

    @classmethod
    def of(cls, lm: FrozenLM, grid: ActionGrid) -> CostModel:
        """Costs of a loaded model's steps under a grid."""
        size = lm.dtype.itemsize
        return cls(lm.spec, size, size, grid.page_size, grid.mechanisms)

    def decode_step(self, action: Action | Budget, cached_tokens: int) -> StepCost:
        """One decode step that attends over ``cached_tokens`` (the new one included).

        Args:
            action: of the step, or a mean spend.
        """
        spec = self.spec
        projections = spec.hidden_size * (2 * spec.query_width + 2 * spec.kv_width)
        attention_flops = 2.0 * spec.num_layers * projections
        attention_bytes = float(spec.num_layers * projections * self.bytes_per_weight)
        for window, layers in Counter(spec.windows).items():
            flops, read = self._attention(action, min(cached_tokens, window or cached_tokens))
            attention_flops += layers * flops
            attention_bytes += layers * read
        entering, inner = self.mechanisms.mlp_shares(action.channel_keep_ratio)
        channels = ceil_fraction(entering, spec.hidden_size)
        mlp = 2 * spec.intermediate_size * channels
        mlp += spec.hidden_size * ceil_fraction(inner, spec.intermediate_size)
        mlp *= spec.num_layers
        head = spec.hidden_size * spec.vocab_size
        return StepCost(
            attention_flops=attention_flops,
            mlp_flops=2.0 * mlp,
            head_flops=2.0 * head,
            attention_bytes=attention_bytes,
            mlp_bytes=float(mlp * self.bytes_per_weight),
            head_bytes=float(head * self.bytes_per_weight),
        )

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

    def _attention(self, action: Action | Budget, visible: int) -> tuple[float, float]:
        """FLOPs and bytes of one layer's scores, page scores and values."""
        spec = self.spec
        pages = -(-visible // self.page_size)
        kept = pages_kept(action.keep_fraction, visible, self.page_size)
        tokens = min(visible, kept * self.page_size)
        flops = 4.0 * spec.query_width * tokens
        read = 2.0 * spec.kv_width * tokens * self.bytes_per_cached
        if kept == pages:
            return flops, read
        widths = spec.query_width, spec.kv_width, spec.num_kv_heads
        work = PagesToScore(*widths, visible, pages, self.bytes_per_cached)
        scoring_flops, scoring_read = self.mechanisms.scorer.cost(work)
        return flops + scoring_flops, read + scoring_read
