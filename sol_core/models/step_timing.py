"""Times of a few decode steps, from which those of all others follow.

Attention takes a part for each token that it reads, MLP and head take what their levels do; all of
them take longer after a long text, which leaves less of the caches. What a generation does with a
step's logits is a step's, too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kernels.decode_layer import HAS_TICKS
from kernels.log_softmax import log_softmax_and_entropy, top_k
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.models.step.clock import StepClock
from sol_core.models.step.times import StepTimes, TimesAtContext

if TYPE_CHECKING:
    from sol_core.models.cache import KVCache
    from sol_core.models.decoder import FrozenLM

MECHANISMS = GRIDS["default"].mechanisms
_CONTEXTS, _KEPT = (256, 2000, 7000), (0.9, 0.5, 0.1)
_MOST_READ = 2000  # tokens; reading 7,000 takes several seconds
_CHANNELS = (0.25, 0.5, 0.75, 0.95, 1.0)
_STEPS, _TURNS = 20, 4  # of each kind; the lower quartile counts: other programs only add
_MOST_SPREAD = 1.2  # 1.03 to 1.14 on a quiet machine; 1.07 to 2.9 beside one busy program
_MOST_APART = 1.4  # of the MLP after different contexts: 1.2 on a quiet machine
_ALTERNATIVES = 5  # of a token, that are shown
_WRITTEN = 128 + _STEPS  # tokens of the model's own, whose states are those of text


class _Parts(NamedTuple):
    """Lower quartiles over some steps of one action."""

    attention: float  # ms, as the next two
    mlp: float
    head: float
    around: float
    tokens_read: float  # summed over layers and KV heads, in the mean
    spread: float  # median of the steps' times over the shortest


def can_time_steps(lm: FrozenLM) -> bool:
    """Return whether a step's parts can be told apart, after as long a text as is needed."""
    return HAS_TICKS and lm.spec.max_positions >= _CONTEXTS[1] + _STEPS


def measure_step_times(lm: FrozenLM) -> StepTimes | None:
    """Measure a model's steps; a few seconds. None where other programs took the cores meanwhile.

    See ``can_time_steps``.
    """
    text = _written(lm)
    readers = lm.spec.num_layers * lm.spec.num_kv_heads
    contexts = [context for context in _CONTEXTS if context + _STEPS <= lm.spec.max_positions]
    at, mlp, spreads = list[TimesAtContext](), list[float](), list[float]()
    for context in contexts:
        actions = [DENSE, *map(Action, _KEPT)]
        if not at:
            actions += [Action(1.0, level) for level in _CHANNELS[:-1]]
        timed = _parts_by_turns(lm, _prefix(lm, text, context), text[-_STEPS:], actions)
        (dense, *sparse), of_mlp = timed[: 1 + len(_KEPT)], timed[1 + len(_KEPT) :]
        mlp += [round(parts.mlp, 4) for parts in ([*of_mlp, dense] if not at else [])]
        spreads.append(float(np.median([parts.spread for parts in timed])))
        chosen = [(1.0, parts.tokens_read / 1000) for parts in sparse]
        fixed, for_tokens = _fitted(chosen, [parts.attention for parts in sparse])
        head = float(np.median([parts.head for parts in sparse]))
        at.append(
            TimesAtContext(
                context,
                round(dense.attention, 4),
                (fixed, for_tokens),
                round(dense.mlp, 4),
                (round(dense.head, 4), round(head, 4)),
                round(dense.around, 4),
            )
        )
    whole = [times.mlp for times in at]  # which no context changes
    if max(spreads) > _MOST_SPREAD or max(whole) > _MOST_APART * min(whole):
        return None
    return StepTimes(tuple(at), _CHANNELS, tuple(mlp), readers)


def _prefix(lm: FrozenLM, text: torch.Tensor, context: int) -> KVCache:
    """A cache of so many tokens: the text, and copies of what was read, which takes as long."""
    cache, read = lm.new_cache(1, context + _STEPS), min(context, _MOST_READ)
    before = text[:-_STEPS]  # the steps' tokens are new
    fed = before.repeat(-(-read // len(before)))[None, :read]
    lm.prefill(fed, cache)
    for at in range(read, context, read):
        count = min(read, context - at)
        for store in cache.layers:
            for buffer in (store.keys, store.values):
                buffer[:, :, at : at + count] = buffer[:, :, :count]
        cache.advance(count)
    return cache


def _fitted(known: Sequence[tuple[float, ...]], taken: Sequence[float]) -> tuple[float, ...]:
    """Least squares of terms that take no negative time."""
    terms, wanted = np.array(known), np.array(taken)
    fitted = np.zeros(terms.shape[1])
    use = np.ones(len(fitted), bool)
    while use.any():
        fitted[:] = 0
        fitted[use] = np.linalg.lstsq(terms[:, use], wanted, rcond=None)[0]
        if (fitted >= 0).all():
            break
        use &= fitted >= 0
    return tuple(round(float(value), 4) for value in fitted)


def _written(lm: FrozenLM) -> torch.Tensor:
    """[N] tokens that the model draws after its first one."""
    generator = torch.Generator().manual_seed(0)
    cache, tokens = lm.new_cache(1, _WRITTEN), [0]
    for _ in range(_WRITTEN - 1):
        logits = lm.decode_step(torch.tensor(tokens[-1:]), cache).logits[0]
        tokens.append(int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))
    return torch.tensor(tokens)


def _describe(logits: torch.Tensor) -> None:
    """Do what a generation does after each step."""
    log_probabilities, entropy = log_softmax_and_entropy(logits)
    entropy.tolist()
    for count in (1, _ALTERNATIVES):
        top_k(log_probabilities[0], count)


def _parts_by_turns(
    lm: FrozenLM, cache: KVCache, text: torch.Tensor, actions: Sequence[Action]
) -> list[_Parts]:
    """Time each action's steps, a few at a time, so that a busy moment meets all of them."""
    context = cache.lengths[0]
    steps: list[list[tuple[float, ...]]] = [[] for _ in actions]
    for tokens in text.split(_STEPS // _TURNS):
        for action, taken in zip(actions, steps, strict=True):
            cache.truncate(context)
            # A turn's first step is of what the one before left in the caches.
            taken += [_parts(lm, cache, token, action) for token in tokens][1:]
    made = []
    for taken in steps:
        whole = np.sum([step[:4] for step in taken], axis=1)
        attention, mlp, head, around = np.percentile(taken, 25, axis=0)[:4].tolist()
        read, spread = float(np.mean([step[4] for step in taken])), np.median(whole) / whole.min()
        made.append(_Parts(attention, mlp, head, around, read, float(spread)))
    return made


def _parts(
    lm: FrozenLM, cache: KVCache, token: torch.Tensor, action: Action
) -> tuple[float, float, float, float, float]:
    """One step's attention, MLP, head, what is around them, ms, and tokens read."""
    clock, started = StepClock(lm.device), time.perf_counter()
    output = lm.decode_step(token[None], cache, action, mechanisms=MECHANISMS, clock=clock)
    _describe(output.logits)
    parts = clock.part_times(1000 * (time.perf_counter() - started))
    read = float(output.tokens_read.sum())
    return parts.attention, parts.mlp, parts.head, parts.rest, read
