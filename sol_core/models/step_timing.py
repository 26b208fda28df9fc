"""Times a few decode steps, from which all others are estimated.

Attention's time grows with the tokens it reads, the MLP's and the head's with their levels. All of
them grow with the context, which displaces the CPU's caches. A generation's work on a step's logits
counts as part of the step.
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
_STEPS, _TURNS = 20, 4  # per action; the lower quartile counts, as other programs only add time
_MOST_SPREAD = 1.2  # 1.03 to 1.14 on a quiet machine; 1.07 to 2.9 beside one busy program
_MOST_APART = 1.4  # ratio of the MLP's times after different contexts: 1.2 on a quiet machine
_ALTERNATIVES = 5  # shown per token
_WRITTEN = 128 + _STEPS  # tokens sampled from the model, whose states resemble text


class _Parts(NamedTuple):
    """Lower quartiles over the steps of one action."""

    attention: float  # ms, as the next two
    mlp: float
    head: float
    around: float
    tokens_read: float  # summed over layers and KV heads, in the mean
    spread: float  # median step time over the shortest


def can_time_steps(lm: FrozenLM) -> bool:
    """Return whether a step's parts can be timed, and the context is long enough."""
    return HAS_TICKS and lm.spec.max_positions >= _CONTEXTS[1] + _STEPS


def measure_step_times(lm: FrozenLM) -> StepTimes | None:
    """Measure a model's steps in a few seconds; None if other programs used the cores meanwhile.

    Requires ``can_time_steps``.
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
    whole = [times.mlp for times in at]  # independent of the context
    if max(spreads) > _MOST_SPREAD or max(whole) > _MOST_APART * min(whole):
        return None
    return StepTimes(tuple(at), _CHANNELS, tuple(mlp), readers)


def _prefix(lm: FrozenLM, text: torch.Tensor, context: int) -> KVCache:
    """Make a cache of ``context`` tokens; beyond those read, copies take as long to attend to."""
    cache, read = lm.new_cache(1, context + _STEPS), min(context, _MOST_READ)
    before = text[:-_STEPS]  # without the tokens of the timed steps
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
    """Fit times by least squares without negative terms."""
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
    """Sample tokens [N] from the model."""
    generator = torch.Generator().manual_seed(0)
    cache, tokens = lm.new_cache(1, _WRITTEN), [0]
    for _ in range(_WRITTEN - 1):
        logits = lm.decode_step(torch.tensor(tokens[-1:]), cache).logits[0]
        tokens.append(int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))
    return torch.tensor(tokens)


def _describe(logits: torch.Tensor) -> None:
    """Do a generation's work after each step."""
    log_probabilities, entropy = log_softmax_and_entropy(logits)
    entropy.tolist()
    for count in (1, _ALTERNATIVES):
        top_k(log_probabilities[0], count)


def _parts_by_turns(
    lm: FrozenLM, cache: KVCache, text: torch.Tensor, actions: Sequence[Action]
) -> list[_Parts]:
    """Time each action's steps in turns, so that a busy moment affects all of them."""
    context = cache.lengths[0]
    steps: list[list[tuple[float, ...]]] = [[] for _ in actions]
    for tokens in text.split(_STEPS // _TURNS):
        for action, taken in zip(actions, steps, strict=True):
            cache.truncate(context)
            # Skip a turn's first step, which depends on what the previous one left in the caches.
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
    """Time one step: attention, MLP, head and the rest, ms; and tokens read."""
    clock, started = StepClock(lm.device), time.perf_counter()
    output = lm.decode_step(token[None], cache, action, mechanisms=MECHANISMS, clock=clock)
    _describe(output.logits)
    parts = clock.part_times(1000 * (time.perf_counter() - started))
    read = float(output.tokens_read.sum())
    return parts.attention, parts.mlp, parts.head, parts.rest, read
