"""Output of one decode step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["StepOutput"]


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Tensors of their own: no later step overwrites them.

    Attributes:
        hidden: [R, C] fp32, last hidden state after the final norm.
        logits: [R, V] fp32.
        attention_concentration: [R, num_layers] fp32, mean over heads of the attention
            mass outside the best 40 % of pages, by page bounds; None unless observed.
        mid_hidden: [R, 2, C] fp32, residual stream after the layers with index
            ``num_layers // 3`` and ``2 · num_layers // 3``; None unless observed.
    """

    hidden: Tensor
    logits: Tensor
    attention_concentration: Tensor | None = None
    mid_hidden: Tensor | None = None

    def clone(self) -> StepOutput:
        """The same in memory of its own."""
        concentration, middle = self.attention_concentration, self.mid_hidden
        return StepOutput(
            self.hidden.clone(),
            self.logits.clone(),
            None if concentration is None else concentration.clone(),
            None if middle is None else middle.clone(),
        )
