"""Texts of many prompts, written side by side: each as ``generate`` writes it alone.

A row that has ended waits for the others; what it decodes meanwhile is neither drawn nor counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sol_core.actions import Action
from sol_core.config import GenerationConfig
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, PrefixState, Windows, decode
from sol_core.generation.sampling import TokenSampler
from sol_core.generation.text_stream import TextStream, TextUntil
from sol_core.models.cache import KVCache
from sol_core.models.loading import LanguageModel
from sol_core.tasks.encoding import Continuation
from sol_core.tasks.scoring import prefill_contexts

__all__ = ["Written", "write_texts"]


@dataclass(frozen=True, slots=True)
class Written:
    """One row's text, the prompt left out, and the action of each of its tokens."""

    text: str
    actions: tuple[Action, ...]


@torch.no_grad()
def write_texts(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    configs: Sequence[GenerationConfig],
    scheduler: BatchScheduler,
) -> list[Written]:
    """Generate from every prompt, one decode step per token.

    Args:
        prompts: B lists of token ids, each at least one; one of a single token stands beside
            such ones only, since it has nothing to be read before its first step.
        configs: of each; grid, episodes and ``max_new_tokens`` are the first one's in all.
        scheduler: of B rows.
    Raises: ContextLengthError when the longest prompt leaves no room.
    """
    first = configs[0]
    rows = [_Row(model, list(p), c) for p, c in zip(prompts, configs, strict=True)]
    room = model.context_length - max(map(len, prompts))
    options = DecodeOptions(
        min(first.max_new_tokens, room), first.grid.mechanisms, episode_steps=first.episode_steps
    )
    prefix, state = _read(model, prompts, first, observe=scheduler.observes)
    steps = decode(
        model.lm,
        prefix,
        [prompt[-1] for prompt in prompts],
        scheduler,
        lambda _: None if all(row.ended for row in rows) else [row.token for row in rows],
        options,
        state,
    )
    for step in steps:
        for row, action, logits in zip(rows, step.actions, step.output.logits, strict=True):
            row.take(action, logits)
    return [row.written() for row in rows]


class _Row:
    """State of one prompt's text while it is written."""

    def __init__(self, model: LanguageModel, tokens: list[int], config: GenerationConfig) -> None:
        self._sampler = TokenSampler(config.sampling, tokens)
        self._stream = TextStream(model.tokenizer, tokens)
        self._visible = TextUntil(config.stop_strings)
        self._end_tokens = set() if config.ignore_end_of_text else model.end_of_text_ids
        self._actions: list[Action] = []
        self.token = tokens[-1]
        self.ended = False

    def take(self, action: Action, logits: Tensor) -> None:
        """Draw the next token from [V] logits, unless the text has ended."""
        if self.ended:
            return
        self._actions.append(action)
        self.token = self._sampler.draw(logits)
        piece = self._stream.push(self.token)
        self.ended = self.token in self._end_tokens or self._visible.add(piece)

    def written(self) -> Written:
        self._visible.add(self._stream.flush())
        return Written(self._visible.text, tuple(self._actions))


def _read(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    observe: bool,
) -> tuple[KVCache | Windows, PrefixState | None]:
    """Read the prompts densely, all but their last tokens."""
    if max(map(len, prompts)) == 1:
        return model.lm.new_cache(len(prompts), 0, page_size=config.grid.page_size), None
    ones = [Continuation(n, 0, tuple(prompt), (0,), 1) for n, prompt in enumerate(prompts)]
    return prefill_contexts(model.lm, ones, config.grid, observe=observe)
