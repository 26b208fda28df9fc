"""Drawing the next token from a step's logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from kernels.top_k import top_k
from sol_core.config import SamplingConfig
from sol_core.errors import ConfigError

# Of input_ids [1, T] int64 and scores [1, V] fp32 → scores [1, V]; transformers' classes are some.
LogitsProcessor = Callable[..., Tensor]


class TokenSampler:
    """Repetition penalty, processors of the caller's, temperature, top-k and top-p: the order of
    transformers.

    Randomness comes from one generator seeded by the configuration, on the CPU: the
    same seed and the same logits give the same tokens on every device.

    Args:
        seen_tokens: the prompt's.
        processors: see ``LogitsProcessor``; each is given what the one before it returned.
    """

    def __init__(
        self,
        config: SamplingConfig,
        seen_tokens: Iterable[int] = (),
        processors: Sequence[LogitsProcessor] = (),
    ) -> None:
        self._config, self._processors = config, processors
        self._tokens = list(seen_tokens)
        self._seen = set(self._tokens)
        self._generator = torch.Generator().manual_seed(config.seed)

    def draw(self, logits: Tensor, given: int | None = None) -> int:
        """Pick a token from [V] logits, and remember it for the repetition penalty.

        Args:
            given: the token that is taken instead; the draw uses up the same randomness.
        Raises: ConfigError for a processor that returns no scores, or leaves no token.
        """
        logits = logits.detach().float().cpu()
        config = self._config
        if config.repetition_penalty != 1.0 and self._seen:
            logits = self._penalised(logits)
        if self._processors:
            logits = self._processed(logits)
        if config.temperature == 0:
            token = int(top_k(logits, 1)[1])
        else:
            probabilities = _nucleus(logits / config.temperature, config.top_k, config.top_p)
            token = int(torch.multinomial(probabilities, 1, generator=self._generator))
        token = token if given is None else given
        self._seen.add(token)
        self._tokens.append(token)
        return token

    def _processed(self, logits: Tensor) -> Tensor:
        ids, scores = torch.tensor([self._tokens], dtype=torch.int64), logits[None]
        for processor in self._processors:
            processed = processor(ids, scores)
            if not isinstance(processed, Tensor) or processed.shape != scores.shape:
                got = (
                    tuple(processed.shape)
                    if isinstance(processed, Tensor)
                    else type(processed).__name__
                )
                raise ConfigError(
                    f"a logits processor must return scores {tuple(scores.shape)}, got {got}"
                )
            scores = processed.float()
        if not bool((scores[0] > -torch.inf).any()) or bool(scores.isnan().any()):
            raise ConfigError("logits processors left no token: all scores are -inf, or some NaN")
        return scores[0]

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
