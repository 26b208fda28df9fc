"""Draw the next token from a step's logits, and make visible text of tokens.

A character may span several tokens (an emoji is four bytes, often three tokens), and
some tokenizers join words depending on what came before. So text is decoded with its
left neighbours, and held back while it ends inside a character. A stop string may span several
tokens as well.
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

# Of input_ids [1, T] int64 and scores [1, V] fp32 → scores [1, V]; transformers' classes are some.
LogitsProcessor = Callable[..., Tensor]
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_MOST_HELD_BACK = 8  # tokens, before a broken character is shown as such
_UNFINISHED = 3  # tokens at most that are the beginning of one character, of four bytes
_CONTEXT = 6  # neighbours decoded with a token


class TokenSampler:
    """Repetition penalty, processors of the caller's, temperature, top-k and top-p: the order of
    transformers.

    Randomness comes from one generator seeded by the configuration, on the CPU: the
    same seed and the same logits give the same tokens on every device.

    Args:
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
        """Pick a token from [V] logits, and remember it for the repetition penalty."""
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


class TextStream:
    """Incremental detokenizer of one sequence."""

    def __init__(self, tokenizer: TextCodec, context: list[int] | None = None) -> None:
        self._tokenizer = tokenizer
        self._specials = set(tokenizer.all_special_ids)
        visible = [token for token in context or [] if token not in self._specials]
        self._shown = visible[-_CONTEXT:]  # the last tokens whose text is out
        self._pending: list[int] = []  # those held back

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
            count -= _UNFINISHED  # broken, but its last tokens may be a whole character's first
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
    """Text that tokens add to that of others before them, special tokens left out."""
    decode = partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(decode(before + tokens))[len(decode(before)) :]


class TextUntilStop:
    """Visible text so far, which ends before the first of its stop strings."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stop_strings = stop_strings
        self.text = ""  # cut where a stop string began

    def add(self, piece: str) -> bool:
        """Add a piece; returns whether a stop string appeared."""
        known = len(self.text)
        self.text += piece
        end = len(self.text)
        for stop in self._stop_strings:
            start = self.text.find(stop, max(0, known - len(stop) + 1))
            if 0 <= start < end:
                end = start
        has_ended, self.text = end < len(self.text), self.text[:end]
        return has_ended
