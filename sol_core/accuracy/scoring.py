"""Scores of continuations under several schedules: a dense prompt, then compressed steps.

As in SOL (arXiv:2605.10875), every token of every choice is predicted by one decode step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sol_core.accuracy.questions import Continuation
from sol_core.actions import AXES, ActionGrid, Mechanisms
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode, require_finite
from sol_core.decoding.prefix import PrefixState, Windows
from sol_core.decoding.teacher_forcing import teacher_forced
from sol_core.evaluation.rollout import Floats
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.signals import Observe

PLACES = 1024  # whose logits are made at once


@torch.no_grad()
def score_densely(lm: FrozenLM, ones: Sequence[Continuation]) -> list[tuple[float, bool]]:
    """Per continuation its log-likelihood, nats, and whether it is the greedy one."""
    texts = list(dict.fromkeys((item.context + item.tokens)[:-1] for item in ones))
    rows = {text: row for row, text in enumerate(texts)}  # answers by letter share one
    lengths = [len(text) for text in texts]
    padded = [text + (0,) * (max(lengths) - len(text)) for text in texts]
    cache = lm.new_cache(len(texts), max(lengths))
    fed = torch.tensor(padded, device=lm.device)
    hidden = lm.prefill(fed, cache, lengths, batched=True)
    answers = []
    for continuation in ones:
        text = (continuation.context + continuation.tokens)[:-1]
        # Logits of the continuation's own places only, some at a time: a vocabulary is wide.
        last = hidden[rows[text], len(text) - len(continuation.tokens) : len(text)]
        wanted = torch.tensor(continuation.tokens, device=lm.device)
        likelihood, greedy = torch.zeros((), device=lm.device), True
        for places, tokens in zip(last.split(PLACES), wanted.split(PLACES), strict=True):
            log_probabilities = lm.logits(places, batched=True).log_softmax(-1)
            likelihood += log_probabilities.gather(-1, tokens[:, None]).sum()
            greedy &= bool((log_probabilities.argmax(-1) == tokens).all())
        require_finite(likelihood, "the dense pass over a continuation")
        answers.append((float(likelihood), greedy))
    return answers


class BatchScores(NamedTuple):
    """B continuations × G rows."""

    log_likelihood: Floats  # [B, G] of all the choice's tokens together, nats
    greedy: Floats  # [B, G], 1 where every token of the choice was the most probable one
    spend: Floats  # [B, G, axes], summed over the continuation's steps
    num_bytes: Floats  # [B, G] computed bytes read, summed over the continuation's steps


@dataclass(frozen=True, slots=True)
class ReadContexts:
    """Continuations whose contexts have been read densely, all but their last tokens."""

    lm: FrozenLM
    grid: ActionGrid
    ones: Sequence[Continuation]
    windows: Windows  # a window for each of ``ones``
    state: PrefixState  # what the last token that was read leaves for the first step

    def rows(self, places: Sequence[int]) -> ReadContexts:
        """Some of the continuations, in this order; one may come several times."""
        before = self.windows
        sources = tuple(before.sources[place] for place in places)
        lengths = tuple(before.lengths[place] for place in places)
        windows = Windows(before.prefix, sources, lengths)
        ones = [self.ones[place] for place in places]
        return replace(self, ones=ones, windows=windows, state=self.state.rows(places))


def score_continuations(
    lm: FrozenLM,
    ones: Sequence[Continuation],
    scheduler: BatchScheduler,
    grid: ActionGrid,
    *,
    group: int,
) -> BatchScores:
    """Score continuations under ``group`` schedules each; bytes by what was really read."""
    read = read_contexts(lm, ones, grid, observe=scheduler.observes)
    return score_after(read, scheduler, group=group)


@torch.no_grad()
def score_after(
    contexts: ReadContexts,
    scheduler: BatchScheduler,
    *,
    group: int,
    exact: bool = True,  # bytes by what was really read, not by what actions allow
) -> BatchScores:
    """The same after contexts that have been read; they may be gone on from again."""
    lm, ones, grid = contexts.lm, contexts.ones, contexts.grid
    longest = max(len(continuation.tokens) for continuation in ones)
    # Shorter ones repeat their last token; those steps are not counted.
    paths = [
        (text.context[-1], *text.tokens, *text.tokens[-1:] * (longest - len(text.tokens)))
        for text in ones
    ]
    lengths = np.asarray([len(continuation.tokens) for continuation in ones])
    read = np.asarray([continuation.read for continuation in ones])
    options = DecodeOptions(longest, grid.mechanisms, rows_per_sequence=group, batched=True)

    likelihood = np.zeros((len(ones), group))
    greedy = np.ones((len(ones), group))
    spend = np.zeros((len(ones), group, len(AXES)))
    num_bytes = np.zeros((len(ones), group))
    costs = CostModel.of(lm, grid)
    for scored in teacher_forced(lm, contexts.windows, paths, scheduler, options, contexts.state):
        step = scored.step
        runs = step.index < lengths
        counts = (runs & (step.index >= read))[:, None]
        likelihood += counts * _array(-scored.nll)
        best = scored.log_probabilities.argmax(-1) == scored.targets[:, None]
        greedy *= np.where(counts, _array(best), 1.0)
        step_spend, reading = step_spends(step, costs, group, exact=exact)
        spend += runs[:, None, None] * step_spend
        num_bytes += runs[:, None] * reading
    return BatchScores(likelihood, greedy, spend, num_bytes)


@torch.no_grad()
def write_after(
    contexts: ReadContexts,
    numbers: Sequence[int],
    scheduler: BatchScheduler,
    *,
    group: int,
    steps: int,
    is_done: Callable[[list[int]], bool] = lambda _: False,
) -> Floats:
    """Rows write ``steps`` tokens greedily; zeros once ``is_done`` says so of every row's."""
    # A row is a sequence of its own here: rows of one prompt part ways.
    read = contexts.rows([number for number in numbers for _ in range(group)])
    options = DecodeOptions(steps, read.grid.mechanisms, batched=True)
    chosen = np.zeros((len(read.ones), steps), dtype=np.int64)

    def written(step: DecodeStep) -> list[int] | None:
        if all(map(is_done, chosen[:, : step.index + 1].tolist())):
            return None
        return [int(token) for token in chosen[:, step.index]]

    first = [continuation.context[-1] for continuation in read.ones]
    for step in decode(read.lm, read.windows, first, scheduler, written, options, read.state):
        chosen[:, step.index] = step.log_probabilities.argmax(-1).cpu().numpy()
    return chosen.reshape(len(numbers), group, steps).astype(np.float64)


def step_spends(
    step: DecodeStep, costs: CostModel, group: int, *, exact: bool
) -> tuple[Floats, Floats]:
    """[B, group, axes] levels and [B, group] computed bytes of one step."""
    levels = np.asarray([action.as_tuple() for action in step.actions])
    read = step.output.tokens_read.sum(1).tolist() if exact else [None] * len(levels)
    rows = zip(step.actions, step.cached_tokens, read, step.policy_reads, strict=True)
    reading = np.asarray(
        [
            costs.bytes_read(action, cached, tokens, observed=policy.scores_pages)
            + policy.num_bytes
            for action, cached, tokens, policy in rows
        ]
    )
    return levels.reshape(-1, group, len(AXES)), reading.reshape(-1, group)


@torch.no_grad()
def read_contexts(
    lm: FrozenLM, ones: Sequence[Continuation], grid: ActionGrid, *, observe: Observe
) -> ReadContexts:
    """Read every different context once, all but its last token."""
    lm.prepare_for_batches()
    contexts = list(dict.fromkeys(continuation.context for continuation in ones))
    sources = tuple(contexts.index(continuation.context) for continuation in ones)
    lengths = [len(context) - 1 for context in contexts]
    # A policy observes the last token read, so that one is never among the shared ones.
    shared = min(*(item.shared for item in ones), *(length - 1 for length in lengths))
    size = grid.page_size
    if shared > 0:  # read once, and copied into every row
        text = lm.new_cache(1, shared, page_size=size)
        fed = torch.tensor([contexts[0][:shared]], device=lm.device)
        lm.prefill(fed, text, batched=True)
        cache = KVCache.joined([text] * len(contexts), max(lengths) - shared)
    else:
        cache = lm.new_cache(len(contexts), max(lengths), page_size=size)
    rest = max(lengths) - shared
    padded = [context[shared:-1] for context in contexts]
    padded = [tokens + (0,) * (rest - len(tokens)) for tokens in padded]
    counts = [length - shared for length in lengths]
    state = _states_after(
        lm,
        torch.tensor(padded, device=lm.device),
        cache,
        [(source, counts[source] - 1) for source in sources],
        grid.mechanisms if observe else None,
        counts,
    )
    windows = Windows(cache, sources, tuple(lengths[source] for source in sources))
    return ReadContexts(lm, grid, ones, windows, state)


def _states_after(
    lm: FrozenLM,
    tokens: Tensor,  # [B, T] int64
    cache: KVCache,
    ends: Sequence[tuple[int, int]],  # row and place of each
    observe: Mechanisms | None,
    lengths: Sequence[int],  # of the rows
) -> PrefixState:
    """Prefill densely and keep what the steps after some of the tokens observe."""
    rows, places = [row for row, _ in ends], [place for _, place in ends]
    if observe is None:
        return PrefixState(lm.prefill(tokens, cache, lengths, batched=True)[rows, places])
    seen = sorted(set(places))
    observed = torch.tensor(seen, device=lm.device)
    output = lm.observed_prefill(
        tokens, cache, lengths, mechanisms=observe, observed=observed, batched=True
    )
    among_seen = [seen.index(place) for place in places]
    return PrefixState(
        output.hidden[rows, places],
        output.mid_hidden[rows, among_seen],
        output.attention_concentration[rows, among_seen],
    )


def _array(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
