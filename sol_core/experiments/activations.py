"""Massive activations of the MLPs, measured, before and after rounding.

SOL (arXiv:2605.10875) quantises the MLP's output per token, with one scale set by its
largest value. Where one channel is hundreds of times the others, few bits round the
others to zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.activation_quantisation.reference import fake_quantise
from sol_core.experiments.alone import check_tokens
from sol_core.models import FrozenLM
from sol_core.models.loading import LanguageModel
from sol_core.models.weights import LayerWeights


@dataclass(frozen=True, slots=True)
class MlpOutput:
    """The MLP output of one layer for one token.

    Attributes:
        token: its number in the text; layer: 1-based; layers: of the model.
        magnitudes: of all channels, largest first.
        median: of the magnitudes.
        zeros: per bit width of ``bits``, how many channels round to 0.
    """

    token: int
    layer: int
    layers: int
    magnitudes: tuple[float, ...]
    median: float
    bits: tuple[int, ...]
    zeros: tuple[int, ...]


class _WatchedLM(FrozenLM):
    """The same model over the same weights, which notes what every MLP adds."""

    _few_rows = None  # the fast path adds inside its kernels

    def watch(self, tokens: Sequence[int]) -> Tensor:
        """[layers, T, C] fp32: the MLP outputs of a dense pass over T tokens."""
        self._seen: list[Tensor] = []
        cache = self.new_cache(1, len(tokens))
        self.prefill(torch.tensor([list(tokens)], device=self.device), cache)
        return torch.stack(self._seen)

    def _add_mlp(self, layer: LayerWeights, hidden: Tensor, update: Tensor) -> Tensor:
        self._seen.append(update[0].float())
        return super()._add_mlp(layer, hidden, update)


@torch.no_grad()
def most_massive_output(
    model: LanguageModel, tokens: Sequence[int], first: int, bits: Sequence[int]
) -> MlpOutput:
    """The most uneven MLP output of tokens ``first`` … last: largest over median magnitude.

    Raises: ConfigError, ContextLengthError.
    """
    check_tokens(model, tokens, first + 1)
    outputs = _WatchedLM(model.spec, model.lm.weights).watch(tokens)[:, first:]
    magnitudes = outputs.abs()
    medians = magnitudes.median(-1).values
    uneven = magnitudes.amax(-1) / medians.clamp(min=1e-8)
    layer, place = divmod(int(uneven.argmax()), uneven.shape[1])
    ranked = magnitudes[layer, place].sort(descending=True).values
    widths = torch.tensor(list(bits), device=outputs.device)
    rounded = fake_quantise(outputs[layer, place].expand(len(bits), -1), widths)
    return MlpOutput(
        token=first + place,
        layer=layer + 1,
        layers=len(outputs),
        magnitudes=tuple(ranked.tolist()),
        median=float(medians[layer, place]),
        bits=tuple(bits),
        zeros=tuple((rounded == 0).sum(-1).tolist()),
    )
