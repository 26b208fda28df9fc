"""Dense prefill of prefixes, in chunks that depend on the prefix's length alone.

The sums of a matrix product depend on its number of rows, so a token's keys depend on its chunk.
Chunks are blocks of ``BLOCK`` tokens, then halves down to ``LEAST_CHUNK`` where they fit, the
remaining tokens but one, and the last token alone, which a policy may observe. A prefix therefore
has bit-identical keys and values for every caller, and prefixes reuse the chunks that they share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sol_core.actions import Mechanisms
from sol_core.events import PrefillProgress
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.kept_prefixes import KeptPrefix, OwnersPrefixes
from sol_core.progress import no_stop

ResultT = TypeVar("ResultT")

BLOCK = 512  # tokens
LEAST_CHUNK = 256  # tokens; with chunks of 64, 512 tokens take a third longer
EQUAL_WORK = 2500  # cached tokens at which attention takes as long as the rest of the model


class PrefixState(NamedTuple):
    """Observation of the prefix's last token, used at step 0; B sequences."""

    hidden: Tensor  # [B, C] fp32, after the final norm
    mid_hidden: Tensor | None = None  # as in StepObservation; None if not observed
    concentration: Tensor | None = None  # likewise

    def rows(self, numbers: Sequence[int]) -> PrefixState:
        """Select sequences, in this order; repetitions are allowed."""
        rows = list(numbers)
        return PrefixState._make(None if part is None else part[rows] for part in self)

    @staticmethod
    def joined(states: Sequence[PrefixState | None]) -> PrefixState | None:
        """Concatenate the states of several prefixes; None if any of them is None."""
        known = [state for state in states if state is not None]
        if len(known) < len(states):
            return None
        parts = zip(*known, strict=True)
        return PrefixState._make(
            None if any(some is None for some in part) else torch.cat(part) for part in parts
        )


class ReadPrefix(NamedTuple):
    """A prefix after prefill."""

    cache: KVCache  # one row; branch it, because other callers may share it
    state: PrefixState | None  # state of the last token; None if empty or stopped
    reused: int = 0  # tokens copied from an earlier text's cache


def read_prefix(
    lm: FrozenLM,
    tokens: Sequence[int],
    page_size: int,
    observe: Mechanisms | None = None,
    should_stop: Callable[[], bool] = no_stop,
    prefixes: OwnersPrefixes | None = None,
) -> ReadPrefix:
    """Prefill a prefix; see ``read_prefix_in_chunks``."""
    return _result(read_prefix_in_chunks(lm, tokens, page_size, observe, should_stop, prefixes))


def read_prefix_in_chunks(
    lm: FrozenLM,
    tokens: Sequence[int],
    page_size: int,
    observe: Mechanisms | None,
    should_stop: Callable[[], bool],
    prefixes: OwnersPrefixes | None,
) -> Generator[PrefillProgress, None, ReadPrefix]:
    """Prefill a prefix, starting after the chunks that are cached.

    Args:
        observe: mechanisms of the policy that observes the last token, if any.
        should_stop: polled before every layer of every chunk.
        prefixes: cache of earlier prefixes; None disables it.
    Yields: progress after each whole block.
    """
    if lm.device.type != "cpu":  # a GPU reads a text faster than it copies one
        prefixes = None
    longest = prefixes and prefixes.kept.longest(prefixes.owner, tokens, _common_tokens)
    kept, reused = longest or (None, 0)
    states = dict[Hashable, PrefixState]()  # of this text, by ``observe``
    if kept is not None and reused == len(tokens) and kept.cache.page_size == page_size:
        states = kept.states
        if observe in states:
            return ReadPrefix(kept.cache, states[observe], reused)
    cache = lm.new_cache(1, len(tokens) + 1, page_size=page_size)
    if kept is not None and (reused := _last_chunk_end(tokens, reused)):
        cache.copy_tokens(kept.cache, reused)
    state = yield from _read(lm, tokens, cache, observe, should_stop)
    if prefixes is not None and state is not None:
        made = KeptPrefix(prefixes.owner, tuple(tokens), cache, {**states, observe: state})
        prefixes.kept.add(made)
    return ReadPrefix(cache, state, reused)


def read_prefixes(
    lm: FrozenLM, prefixes: Sequence[Sequence[int]], page_size: int, observe: Mechanisms | None
) -> tuple[KVCache, PrefixState]:
    """Prefill several sequences, each of at least one token, as the rows of one cache.

    Chunks that a sequence shares with the previous one are copied.
    """
    cache = lm.new_cache(len(prefixes), max(map(len, prefixes)), page_size=page_size)
    states: list[PrefixState] = []
    for row, tokens in enumerate(prefixes):
        mine = cache.view(row, 1, current_codes=False)
        if row:
            known = _last_chunk_end(tokens, _common_tokens(prefixes[row - 1], tokens))
            mine.copy_tokens(cache.view(row - 1, 1, current_codes=False), known)
        state = _result(_read(lm, tokens, mine, observe, no_stop))
        assert state is not None
        states.append(state)
        cache.own_lengths[row] = len(tokens)
    joined = PrefixState.joined(states)
    assert joined is not None
    return cache, joined


def prefill_token(
    lm: FrozenLM, token: Tensor, cache: KVCache, observe: Mechanisms | None
) -> PrefixState:
    """Prefill one token [B, 1]; returns the state that step 0 observes."""
    if observe is None:
        return PrefixState(lm.prefill(token, cache)[:, -1])
    output = lm.observed_prefill(token, cache, mechanisms=observe)
    seen = output.hidden, output.mid_hidden, output.attention_concentration
    return PrefixState(*(values[:, -1] for values in seen))


def _result(reading: Generator[PrefillProgress, None, ResultT]) -> ResultT:
    """Run a prefill to its end, ignoring progress."""
    while True:
        try:
            next(reading)
        except StopIteration as end:
            result: ResultT = end.value
            return result


class _StoppedError(Exception):
    """Raised within a chunk when ``should_stop`` returns True; the chunk is discarded."""


def _read(
    lm: FrozenLM,
    tokens: Sequence[int],
    cache: KVCache,
    observe: Mechanisms | None,
    should_stop: Callable[[], bool],
) -> Generator[PrefillProgress, None, PrefixState | None]:
    """Prefill the tokens that the cache of one row lacks; returns None when stopped."""

    def check(layer: int, hidden: Tensor) -> None:
        if should_stop():
            raise _StoppedError

    known, began = cache.own_lengths[0], time.perf_counter()
    ends = [end for end in _chunk_ends(len(tokens)) if end > known]
    fed = torch.tensor([list(tokens)], device=lm.device)
    for start, end in pairwise([known, *ends[:-1]]):
        try:
            lm.prefill(fed[:, start:end], cache, on_stream=check)
        except _StoppedError:
            return None
        if end - start == BLOCK:
            yield PrefillProgress(end, len(tokens), _seconds_left(known, end, len(tokens), began))
    return prefill_token(lm, fed[:, -1:], cache, observe) if tokens else None


def _seconds_left(start: int, read: int, total: int, began: float) -> float:
    """Estimate the time left; a token's time grows with its number of cached tokens."""

    def work(first: int, last: int) -> float:
        return (last - first) * (1 + (first + last) / 2 / EQUAL_WORK)

    return (time.perf_counter() - began) * work(read, total) / work(start, read)


def _chunk_ends(num_tokens: int) -> Iterator[int]:
    """Yield the ends of the chunks of a prefix of so many tokens."""
    last, end = num_tokens - 1, 0
    size = BLOCK
    while size >= LEAST_CHUNK:
        if end + size <= last:
            end += size
            yield end
        else:
            size //= 2
    if end < last:
        yield last
    if num_tokens:
        yield num_tokens


def _common_tokens(before: Sequence[int], tokens: Sequence[int]) -> int:
    """Count the tokens of the leading chunks that two prefixes share."""
    common = 0
    for end, other in zip(_chunk_ends(len(before)), _chunk_ends(len(tokens)), strict=False):
        if end != other or tuple(before[common:end]) != tuple(tokens[common:end]):
            break
        common = end
    return common


def _last_chunk_end(tokens: Sequence[int], at_most: int) -> int:
    """Return the last chunk end ≤ ``at_most`` that leaves at least one token to read."""
    ends = (end for end in _chunk_ends(len(tokens)) if end <= at_most and end < len(tokens))
    return max(ends, default=0)
