"""Samples the next token from a step's logits, and turns tokens into visible text.

A character may span several tokens (an emoji is four bytes, often three tokens), and some
tokenizers join words depending on their left context. Text is therefore decoded with its left
neighbours, and held back while it ends inside a character. A stop string may also span tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sol_core.config import SamplingConfig
from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from sol_core.models.checkpoint import TextCodec

# Maps input_ids [1, T] int64 and scores [1, V] fp32 to scores [1, V], as transformers' classes do.
LogitsProcessor = Callable[..., Tensor]
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_MOST_HELD_BACK = 8  # tokens before an incomplete character is shown as U+FFFD
_UNFINISHED = 3  # most tokens that can begin one four-byte character
_CONTEXT = 6  # neighbours decoded with a token


class TokenSampler:
    """Applies repetition penalty, the caller's processors, temperature, top-k and top-p, in the
    order of transformers.

    Randomness comes from one generator on the CPU, seeded by the configuration: the same seed and
    logits give the same tokens on every device.

    Args:
        processors: see ``LogitsProcessor``; each receives the previous one's result.
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
        """Sample a token from [V] logits and record it for the repetition penalty."""
        logits = logits.detach().float().cpu()
        config = self._config
        if config.repetition_penalty != 1.0 and self._seen:
            logits = self._penalised(logits)
        if self._processors:
            logits = self._processed(logits)
        if config.temperature == 0:
            token = int(logits.numpy().argmax())
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
                is_tensor = isinstance(processed, Tensor)
                got = tuple(processed.shape) if is_tensor else type(processed).__name__
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
    """Turn [V] logits into [V] probabilities without the tail; at least one token remains."""
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


class TextStream:
    """Incremental detokenizer of one sequence."""

    def __init__(self, tokenizer: TextCodec, context: list[int] | None = None) -> None:
        self._tokenizer = tokenizer
        self._specials = set(tokenizer.all_special_ids)
        visible = [token for token in context or [] if token not in self._specials]
        self._shown = visible[-_CONTEXT:]  # last tokens whose text was returned
        self._pending: list[int] = []  # tokens held back

    def push(self, token: int) -> str:
        """Return the text that this token adds: "" while a character is incomplete."""
        if token in self._specials:
            return ""
        self._pending.append(token)
        count = len(self._pending)
        text = _added_text(self._tokenizer, self._shown, self._pending)
        if text.endswith(_INCOMPLETE):
            if count < _MOST_HELD_BACK:
                return ""
            count -= _UNFINISHED  # the last tokens may begin a valid character
            text = _added_text(self._tokenizer, self._shown, self._pending[:count])
        self._shown = (self._shown + self._pending[:count])[-_CONTEXT:]
        self._pending = self._pending[count:]
        return text

    def flush(self) -> str:
        """Return the text still held back, broken characters as U+FFFD."""
        text = _added_text(self._tokenizer, self._shown, self._pending)
        self._shown, self._pending = (self._shown + self._pending)[-_CONTEXT:], []
        return text


def page_texts(tokenizer: TextCodec, tokens: list[int], page_size: int) -> Iterator[str]:
    """Yield the text that each page of tokens adds, special tokens left out."""
    for start in range(0, len(tokens), page_size):
        before, page = tokens[max(start - _CONTEXT, 0) : start], tokens[start : start + page_size]
        yield _added_text(tokenizer, before, page)


def _added_text(tokenizer: TextCodec, before: list[int], tokens: list[int]) -> str:
    """Return the text that tokens add after others, without special tokens."""
    decode = partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(decode(before + tokens))[len(decode(before)) :]


class TextUntilStop:
    """Visible text so far, cut before the first stop string."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stop_strings = stop_strings
        self.text = ""  # without the stop string and what follows

    def add(self, piece: str) -> bool:
        """Append a piece; return whether a stop string appeared."""
        known = len(self.text)
        self.text += piece
        end = len(self.text)
        for stop in self._stop_strings:
            start = self.text.find(stop, max(0, known - len(stop) + 1))
            if 0 <= start < end:
                end = start
        has_ended, self.text = end < len(self.text), self.text[:end]
        return has_ended
