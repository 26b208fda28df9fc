"""Output of one decode step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Tensors of their own: no later step overwrites them.

    Attributes:
        hidden: [R, C] fp32, last hidden state after the final norm.
        logits: [R, V] fp32.
        tokens_read: [R, num_layers] int64, keys (and as many values) that attention read in each
            layer, summed over KV heads; of one that several query heads share, the keys that any
            of them chose.
        attention_concentration: [R, num_layers] fp32, mean over heads of the attention
            mass outside the best 40 % of pages, by page bounds; None unless observed.
        mid_hidden: [R, 2, C] fp32, residual stream after the layers with index
            ``num_layers // 3`` and ``2 · num_layers // 3``; None unless observed.
        page_readers: [R, num_layers, P] uint8, KV heads that read each page of a row's cache,
            oldest first, zeros behind its last one; None unless requested.
    """

    hidden: Tensor
    logits: Tensor
    tokens_read: Tensor
    attention_concentration: Tensor | None = None
    mid_hidden: Tensor | None = None
    page_readers: Tensor | None = None

    def on_host(self) -> StepOutput:
        """The same in the host's memory, by a single copy, which waits for the device."""
        tensors = {name: getattr(self, name) for name in self.__slots__}
        given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        # fp32 holds counts below 2^24 exactly.
        flat = torch.cat([tensor.float().flatten() for tensor in given.values()]).cpu()
        parts = flat.split([tensor.numel() for tensor in given.values()])
        copies = {
            name: part.view(tensor.shape).to(tensor.dtype)
            for part, (name, tensor) in zip(parts, given.items(), strict=True)
        }
        return replace(self, **copies)

    def clone(self) -> StepOutput:
        """The same in memory of its own."""
        seen = self.attention_concentration, self.mid_hidden, self.page_readers
        copies = (None if tensor is None else tensor.clone() for tensor in seen)
        always = (self.hidden, self.logits, self.tokens_read)
        return StepOutput(*(tensor.clone() for tensor in always), *copies)
