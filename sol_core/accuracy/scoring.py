"""Scores continuations under several schedules: a dense prompt, then compressed steps.

As in SOL (arXiv:2605.10875), each token of each choice is predicted by one decode step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sol_core.accuracy.questions import Continuation
from sol_core.actions import AXES, ActionGrid
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions, require_finite, teacher_forced
from sol_core.decoding.prefix import PrefixState
from sol_core.evaluation.rollout import Floats, floats, step_levels, step_reading
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.signals import Observe

POSITIONS_AT_ONCE = 1024  # positions whose logits are computed together


@torch.no_grad()
def score_densely(lm: FrozenLM, asked: Sequence[Continuation]) -> list[tuple[float, bool]]:
    """Return each continuation's log-likelihood, nats, and whether it is the greedy one."""
    read = [(item.context + item.tokens)[:-1] for item in asked]
    texts = list(dict.fromkeys(read))  # answers by letter share a text
    lengths = [len(text) for text in texts]
    cache = lm.new_cache(len(texts), max(lengths))
    hidden = lm.prefill(_padded(lm, texts), cache, lengths, batched=True)
    answers = []
    for continuation, text in zip(asked, read, strict=True):
        # Only logits of the continuation, some at a time to bound memory.
        last = hidden[texts.index(text), len(text) - len(continuation.tokens) : len(text)]
        wanted = torch.tensor(continuation.tokens, device=lm.device)
        likelihood, greedy = torch.zeros((), device=lm.device), True
        for states, tokens in zip(
            last.split(POSITIONS_AT_ONCE), wanted.split(POSITIONS_AT_ONCE), strict=True
        ):
            log_probabilities = lm.logits(states, batched=True).log_softmax(-1)
            likelihood += log_probabilities.gather(-1, tokens[:, None]).sum()
            greedy &= bool((log_probabilities.argmax(-1) == tokens).all())
        require_finite(likelihood, "the dense pass over a continuation")
        answers.append((float(likelihood), greedy))
    return answers


class BatchScores(NamedTuple):
    """Scores of B continuations × G rows."""

    log_likelihood: Floats  # [B, G], summed over the choice's tokens, nats
    greedy: Floats  # [B, G], 1 if each token of the choice was the most probable
    spend: Floats  # [B, G, axes], summed over the continuation's steps
    num_bytes: Floats  # [B, G] computed bytes read, summed over the continuation's steps


@dataclass(frozen=True, slots=True)
class ReadContexts:
    """Continuations with densely read contexts, without the contexts' last tokens."""

    lm: FrozenLM
    grid: ActionGrid
    asked: Sequence[Continuation]
    cache: KVCache  # a row per distinct context
    sources: list[int]  # row of each continuation's context
    state: PrefixState  # state of each context's last read token

    def rows(self, numbers: Sequence[int]) -> ReadContexts:
        """Select continuations, in this order; repetitions are allowed."""
        asked = [self.asked[number] for number in numbers]
        sources = [self.sources[number] for number in numbers]
        return replace(self, asked=asked, sources=sources, state=self.state.rows(numbers))


@torch.no_grad()
def score_after(
    contexts: ReadContexts,
    scheduler: BatchScheduler,
    *,
    group: int,
    exact: bool = True,  # count measured bytes, not those that actions allow
) -> BatchScores:
    """Score continuations under ``group`` schedules each; ``contexts`` is not changed."""
    lm, asked, grid = contexts.lm, contexts.asked, contexts.grid
    lengths = np.asarray([len(continuation.tokens) for continuation in asked])
    longest = int(lengths.max())
    # Shorter ones repeat their last token in steps that are not counted.
    paths = [
        (text.context[-1], *text.tokens, *text.tokens[-1:] * (longest - len(text.tokens)))
        for text in asked
    ]
    read = np.asarray([continuation.read for continuation in asked])
    options = DecodeOptions(longest, grid.mechanisms, batched=True)
    cache = contexts.cache.branch(group, longest, sources=contexts.sources)
    likelihood, num_bytes = np.zeros((2, len(asked), group))
    greedy = np.ones((len(asked), group))
    spend = np.zeros((len(asked), group, len(AXES)))
    costs = CostModel.of(lm, grid)
    for scored in teacher_forced(lm, cache, paths, scheduler, options, contexts.state):
        step = scored.step
        runs = step.index < lengths
        counts = (runs & (step.index >= read))[:, None]
        likelihood += counts * floats(-scored.nll)
        best = scored.log_probabilities.argmax(-1) == scored.targets[:, None]
        greedy *= np.where(counts, floats(best), 1.0)
        spend += runs[:, None, None] * step_levels(step, group)
        num_bytes += runs[:, None] * step_reading(step, costs, group, exact=exact)
    return BatchScores(likelihood, greedy, spend, num_bytes)


@torch.no_grad()
def read_contexts(
    lm: FrozenLM, asked: Sequence[Continuation], grid: ActionGrid, *, observe: Observe
) -> ReadContexts:
    """Pack weights for batches; read each distinct context once, without its last token."""
    lm.prepare_for_batches()
    contexts = list(dict.fromkeys(continuation.context for continuation in asked))
    sources = [contexts.index(continuation.context) for continuation in asked]
    lengths = [len(context) - 1 for context in contexts]
    cache = lm.new_cache(len(contexts), max(lengths), page_size=grid.page_size)
    fed = _padded(lm, [context[:-1] for context in contexts])
    last = [lengths[source] - 1 for source in sources]
    if observe:
        seen = sorted(set(last))
        output = lm.observed_prefill(
            fed,
            cache,
            lengths,
            mechanisms=grid.mechanisms,
            observed=torch.tensor(seen, device=lm.device),
            batched=True,
        )
        at = sources, [seen.index(position) for position in last]
        state = PrefixState(
            output.hidden[sources, last], output.mid_hidden[at], output.attention_concentration[at]
        )
    else:
        state = PrefixState(lm.prefill(fed, cache, lengths, batched=True)[sources, last])
    return ReadContexts(lm, grid, asked, cache, sources, state)


def _padded(lm: FrozenLM, texts: Sequence[tuple[int, ...]]) -> Tensor:
    """Return tokens [B, T] int64, shorter texts padded with zeros."""
    longest = max(map(len, texts))
    rows = [text + (0,) * (longest - len(text)) for text in texts]
    return torch.tensor(rows, device=lm.device)
