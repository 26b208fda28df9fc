"""Times of a few decode steps, from which those of all others follow.

Attention takes a part for each cached token and one for each that it reads, MLP and head take what
their levels do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kernels.decode_layer import HAS_TICKS
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.models.step.clock import StepClock
from sol_core.models.step.times import StepTimes

if TYPE_CHECKING:
    from sol_core.models.cache import KVCache
    from sol_core.models.decoder import FrozenLM

MECHANISMS = GRIDS["default"].mechanisms
_CONTEXTS, _KEPT = (256, 2000), (0.9, 0.5, 0.1)
_CHANNELS = (0.25, 0.5, 0.75, 0.95, 1.0)
_STEPS = 16  # of each kind; the lower quartile counts, because other programs only add
_MOST_SPREAD = 1.2  # 1.03 to 1.14 on a quiet machine; 1.07 to 2.9 beside one busy program
_WRITTEN = 128  # tokens of the model's own, whose states are those of text


class _Parts(NamedTuple):
    """Lower quartiles over some steps of one action."""

    attention: float  # ms, as the next two
    mlp: float
    head: float
    rest: float
    tokens_read: float  # summed over layers and KV heads, in the mean
    spread: float  # median of the steps' times over the shortest


def can_time_steps(lm: FrozenLM) -> bool:
    """Return whether a step's parts can be told apart, after as long a text as is needed."""
    return HAS_TICKS and lm.spec.max_positions >= max(_CONTEXTS) + _STEPS


def measure_step_times(lm: FrozenLM) -> StepTimes | None:
    """Measure a model's steps; a few seconds. None where other programs took the cores meanwhile.

    See ``can_time_steps``.
    """
    text = _written(lm)
    dense, sparse, mlp = [], [], []
    for context in _CONTEXTS:
        cache = lm.new_cache(1, context)
        fed = text.repeat(-(-context // len(text)))[None, :context]
        lm.prefill(fed, cache)
        dense.append((context, _parts(lm, cache, text, DENSE)))
        sparse += [(context, _parts(lm, cache, text, Action(keep))) for keep in _KEPT]
        if context == _CONTEXTS[0]:
            mlp = [_parts(lm, cache, text, Action(1.0, level, 15)) for level in _CHANNELS]
    timed = [parts for _, parts in (*dense, *sparse)] + mlp
    if np.median([parts.spread for parts in timed]) > _MOST_SPREAD:
        return None
    readers = lm.spec.num_layers * lm.spec.num_kv_heads
    whole = [(1.0, readers * context / 1000) for context, _ in dense]
    chosen = [(1.0, context / 1000, parts.tokens_read / 1000) for context, parts in sparse]
    return StepTimes(
        _fitted(whole, [parts.attention for _, parts in dense]),
        _fitted(chosen, [parts.attention for _, parts in sparse]),
        _CHANNELS,
        tuple(round(parts.mlp, 4) for parts in mlp),
        (round(dense[0][1].head, 4), round(mlp[-1].head, 4)),
        round(dense[0][1].rest, 4),
        readers,
    )


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


def _parts(lm: FrozenLM, prefix: KVCache, text: torch.Tensor, action: Action) -> _Parts:
    cache = prefix.branch(1, _STEPS)
    taken, read = [], []
    for token in text[:_STEPS]:
        clock, started = StepClock(lm.device), time.perf_counter()
        output = lm.decode_step(token[None], cache, action, mechanisms=MECHANISMS, clock=clock)
        parts = clock.part_times(1000 * (time.perf_counter() - started))
        taken.append((parts.attention, parts.mlp, parts.head, parts.rest))
        read.append(float(output.tokens_read.sum()))
    steps = np.sum(taken, axis=1)
    spread = float(np.median(steps) / steps.min())
    attention, mlp, head, rest = np.percentile(taken[2:], 25, axis=0).tolist()
    return _Parts(attention, mlp, head, rest, float(np.mean(read)), spread)
