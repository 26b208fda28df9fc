"""Dense prefixes that decoding starts from: texts are read once, in the same pieces everywhere.

A matrix product's sums depend on how many rows it has, so a token's keys depend on the piece that
it is read in. Pieces follow from the prefix's length alone: blocks of ``BLOCK`` tokens from the
start, halves of it down to ``LEAST_PIECE`` if they fit, the rest but for the last token, and the
last token by itself, which a policy may observe. So a prefix has the same keys and values to the
bit for every caller, and two that begin alike share pieces, which are read once.
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
LEAST_PIECE = 256  # tokens; smaller ones make reading slower, by a third of 512 tokens at 64
EQUAL_WORK = 2500  # tokens before a token at which attention to them takes as long as all the rest


class PrefixState(NamedTuple):
    """Observation that the dense prefix's last token left for step 0, B sequences."""

    hidden: Tensor  # [B, C] fp32, after the final norm
    mid_hidden: Tensor | None = None  # this and the next: see StepObservation; None: not observed
    concentration: Tensor | None = None

    def rows(self, numbers: Sequence[int]) -> PrefixState:
        """The state of some sequences, in this order; one may come several times."""
        rows = list(numbers)
        return PrefixState._make(None if part is None else part[rows] for part in self)

    @staticmethod
    def joined(states: Sequence[PrefixState | None]) -> PrefixState | None:
        """The states of several prefixes as that of their sequences; None where one has none."""
        known = [state for state in states if state is not None]
        if len(known) < len(states):
            return None
        parts = zip(*known, strict=True)
        return PrefixState._make(
            None if any(some is None for some in part) else torch.cat(part) for part in parts
        )


class ReadPrefix(NamedTuple):
    """A prefix as it was read."""

    cache: KVCache  # of one row, to be branched; others may start from it too
    state: PrefixState | None  # of its last token; None without tokens, or if reading was stopped
    reused: int = 0  # tokens whose keys were kept from an earlier text


def read_prefix(
    lm: FrozenLM,
    tokens: Sequence[int],
    page_size: int,
    observe: Mechanisms | None = None,
    should_stop: Callable[[], bool] = no_stop,
    prefixes: OwnersPrefixes | None = None,
) -> ReadPrefix:
    """Read a prefix densely; see ``read_prefix_in_chunks``."""
    return _result(read_prefix_in_chunks(lm, tokens, page_size, observe, should_stop, prefixes))


def read_prefix_in_chunks(
    lm: FrozenLM,
    tokens: Sequence[int],
    page_size: int,
    observe: Mechanisms | None,
    should_stop: Callable[[], bool],
    prefixes: OwnersPrefixes | None,
) -> Generator[PrefillProgress, None, ReadPrefix]:
    """Read a prefix densely, from the first piece on that is not kept.

    Args:
        observe: mechanisms of the policy that observes the last token; None for nobody.
        should_stop: asked before every layer of every piece.
        prefixes: where texts are kept; None for nowhere.
    Yields: progress after each whole block.
    """
    if lm.device.type != "cpu":  # it has read a text sooner than copied it
        prefixes = None
    longest = prefixes and prefixes.kept.longest(prefixes.owner, tokens, _common_tokens)
    kept, reused = longest or (None, 0)
    states = dict[Hashable, PrefixState]()  # of this text, by what observes it
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
    """``read_prefix`` of several sequences, each of at least one token, as rows of one cache.

    The pieces that a sequence has in common with the one before it are copied.
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
    """Read one token [B, 1] densely and keep what step 0's observation needs."""
    if observe is None:
        return PrefixState(lm.prefill(token, cache)[:, -1])
    output = lm.observed_prefill(token, cache, mechanisms=observe)
    seen = output.hidden, output.mid_hidden, output.attention_concentration
    return PrefixState(*(values[:, -1] for values in seen))


def _result(reading: Generator[PrefillProgress, None, ResultT]) -> ResultT:
    """The result of reading whose progress nobody watches."""
    while True:
        try:
            next(reading)
        except StopIteration as end:
            result: ResultT = end.value
            return result


class _StoppedError(Exception):
    """``should_stop`` was obeyed within a piece, of which nothing is kept."""


def _read(
    lm: FrozenLM,
    tokens: Sequence[int],
    cache: KVCache,
    observe: Mechanisms | None,
    should_stop: Callable[[], bool],
) -> Generator[PrefillProgress, None, PrefixState | None]:
    """Read what a cache of one row does not hold yet; returns None when it is stopped."""

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
    """Estimate of what is left; a token takes the longer the more there are before it."""

    def work(first: int, last: int) -> float:
        return (last - first) * (1 + (first + last) / 2 / EQUAL_WORK)

    return (time.perf_counter() - began) * work(read, total) / work(start, read)


def _chunk_ends(num_tokens: int) -> Iterator[int]:
    """Ends of the pieces in which so many tokens are read."""
    last, end = num_tokens - 1, 0
    size = BLOCK
    while size >= LEAST_PIECE:
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
    """Tokens of the first pieces that two prefixes have in common."""
    common = 0
    for end, other in zip(_chunk_ends(len(before)), _chunk_ends(len(tokens)), strict=False):
        if end != other or tuple(before[common:end]) != tuple(tokens[common:end]):
            break
        common = end
    return common


def _last_chunk_end(tokens: Sequence[int], at_most: int) -> int:
    """The last end of a piece that is so near, and leaves a token to be read."""
    ends = (end for end in _chunk_ends(len(tokens)) if end <= at_most and end < len(tokens))
    return max(ends, default=0)
