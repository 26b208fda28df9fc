"""Output of one decode step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.page_attention import Attended
from sol_core.models.signals import Observe
from sol_core.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Tensors that no later step overwrites; None if not requested."""

    hidden: Tensor  # [R, C] fp32, last hidden state after the final norm
    logits: Tensor  # [R, V] fp32
    tokens_read: Tensor  # [R, num_layers] int64, keys read, summed over KV heads
    attention_concentration: Tensor | None = None  # [R, num_layers] fp32, outside the best pages
    mid_hidden: Tensor | None = None  # [R, 2, C] fp32, a third and two thirds up the layers
    page_readers: Tensor | None = None  # [R, num_layers, P] uint8, KV heads that read a page
    hidden_states: Tensor | None = None  # [R, num_layers + 1, C] fp32; the last one is ``hidden``
    page_mass: Tensor | None = None  # [R, num_layers, H, P] fp32, attention by page
    head_rows: Tensor | None = None  # [R, 1] int64, head rows computed exactly after a preview

    def on_host(self) -> StepOutput:
        """Copy all tensors to the host in one transfer; this waits for the device."""
        given = self._present()
        # fp32 holds counts below 2^24 exactly.
        flat = torch.cat([tensor.float().flatten() for tensor in given.values()]).cpu()
        parts = flat.split([tensor.numel() for tensor in given.values()])
        copies = {
            name: part.view(tensor.shape).to(tensor.dtype)
            for part, (name, tensor) in zip(parts, given.items(), strict=True)
        }
        return replace(self, **copies)

    def with_pages_in_order(self, in_order: Callable[[Tensor], Tensor]) -> StepOutput:
        """Reorder pages by ``in_order``, which takes [R, X, P]."""
        readers, mass = self.page_readers, self.page_mass
        if readers is not None:
            readers = in_order(readers)
        if mass is not None:
            mass = in_order(mass.flatten(1, 2)).unflatten(1, mass.shape[1:3])
        return replace(self, page_readers=readers, page_mass=mass)

    @staticmethod
    def joined(outputs: Sequence[StepOutput]) -> StepOutput:
        """Concatenate the outputs of a step's parts, in row order."""

        def cat(name: str) -> Tensor:
            parts = [getattr(output, name) for output in outputs]
            width = max(part.shape[-1] for part in parts)  # pages differ with rows' lengths
            return torch.cat([F.pad(part, (0, width - part.shape[-1])) for part in parts])

        return StepOutput(**{name: cat(name) for name in outputs[0]._present()})

    def rows(self, part: slice) -> StepOutput:
        return replace(self, **{name: tensor[part] for name, tensor in self._present().items()})

    def clone(self) -> StepOutput:
        return replace(self, **{name: tensor.clone() for name, tensor in self._present().items()})

    def _present(self) -> dict[str, Tensor]:
        tensors = {name: getattr(self, name) for name in self.__slots__}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}


class LayerOutputs:
    """Collects the outputs of one step's layers, first to last."""

    def __init__(self, spec: ModelSpec, observe: Observe, *, keeps_streams: bool) -> None:
        self._middle_layers = spec.middle_layers if observe else ()
        self._scores_pages = observe is Observe.CONCENTRATION
        self._keeps_streams = keeps_streams
        self._kept: dict[str, list[Tensor]] = defaultdict(list)  # keyed by field of StepOutput

    def add_stream(self, index: int, stream: Tensor) -> None:
        """Add the residual stream [R, C] after a layer; −1 is before the first."""
        if self._keeps_streams:
            self._kept["hidden_states"].append(stream.float())
        self._kept["mid_hidden"] += [stream.float()] * self._middle_layers.count(index)

    def add(self, attended: Attended, seen: Tensor) -> None:
        """Add a layer's attention and the keys [R, Hkv] that it could read."""
        made = {
            "tokens_read": seen if attended.tokens_read is None else attended.tokens_read,
            "page_readers": attended.readers,
            "page_mass": attended.page_mass,
            "attention_concentration": attended.outside if self._scores_pages else None,
        }
        for name, tensor in made.items():
            if tensor is not None:
                self._kept[name].append(tensor)

    def output(self, hidden: Tensor, logits: Tensor) -> StepOutput:
        """Make the step's output; arguments are its fields."""
        if self._keeps_streams:
            self._kept["hidden_states"][-1] = hidden
        layers = {name: torch.stack(kept, 1) for name, kept in self._kept.items() if kept}
        read = layers.pop("tokens_read").sum(-1)
        if self._scores_pages:
            layers["attention_concentration"] = layers["attention_concentration"].mean(-1)
        return StepOutput(hidden, logits, read, **layers)
