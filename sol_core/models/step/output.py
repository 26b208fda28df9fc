"""Output of one decode step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Tensors of their own: no later step overwrites them. What is not asked for is None."""

    hidden: Tensor  # [R, C] fp32, last hidden state after the final norm
    logits: Tensor  # [R, V] fp32
    tokens_read: Tensor  # [R, num_layers] int64, keys read by any query head, over KV heads
    attention_concentration: Tensor | None = None  # [R, num_layers] fp32, outside the best pages
    mid_hidden: Tensor | None = None  # [R, 2, C] fp32, a third and two thirds up the layers
    page_readers: Tensor | None = None  # [R, num_layers, P] uint8, KV heads that read a page

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
        tensors = {name: getattr(self, name) for name in self.__slots__}
        copies = {name: t.clone() for name, t in tensors.items() if t is not None}
        return replace(self, **copies)
