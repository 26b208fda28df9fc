"""Drawing the next token from a step's logits."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sol_core.config import SamplingConfig

__all__ = ["TokenSampler"]


class TokenSampler:
    """Temperature, top-k, top-p and repetition penalty, in transformers' order.

    Randomness comes from one generator seeded by the configuration, on the CPU: the
    same seed and the same logits give the same tokens on every device.
    """

    def __init__(self, config: SamplingConfig, seen_tokens: Iterable[int] = ()) -> None:
        self._config = config
        self._seen = set(seen_tokens)
        self._generator = torch.Generator().manual_seed(config.seed)

    def draw(self, logits: Tensor, given: int | None = None) -> int:
        """Pick a token from [V] logits, and remember it for the repetition penalty.

        Args:
            given: the token that is taken instead; the draw uses up the same randomness.
        """
        logits = logits.detach().float().cpu()
        config = self._config
        if config.repetition_penalty != 1.0 and self._seen:
            logits = self._penalised(logits)
        if config.temperature == 0:
            token = int(logits.argmax())
        else:
            probabilities = _nucleus(logits / config.temperature, config.top_k, config.top_p)
            token = int(torch.multinomial(probabilities, 1, generator=self._generator))
        token = token if given is None else given
        self._seen.add(token)
        return token

    def _penalised(self, logits: Tensor) -> Tensor:
        index = torch.tensor(sorted(self._seen))
        seen = logits[index]
        penalty = self._config.repetition_penalty
        return logits.index_put((index,), torch.where(seen > 0, seen / penalty, seen * penalty))


def _nucleus(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """[V] logits → [V] probabilities with the tail cut; at least one token survives."""
    if 0 < top_k < logits.numel():
        threshold = logits.topk(top_k).values[-1]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    probabilities = torch.softmax(logits, dim=-1)
    if top_p < 1.0:
        ranked, order = probabilities.sort(descending=True, stable=True)
        outside = ranked.cumsum(0) - ranked >= top_p
        probabilities = probabilities.index_fill(0, order[outside], 0.0)
        probabilities = probabilities / probabilities.sum()
    return probabilities
