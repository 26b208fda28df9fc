"""Dense prefixes that decoding starts from: texts are read in the same pieces everywhere.

A matrix product's sums depend on how many rows it has, so a token's keys depend on the piece that
it is read in. Pieces follow from the prefix's length alone: blocks of ``BLOCK`` tokens from the
start, the rest but for the last token, and the last token by itself, which a policy may observe. So
a prefix has the same keys and values to the bit for every caller, and two that begin alike share
whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sol_core.actions import Mechanisms
from sol_core.models import FrozenLM, PrefillOutput
from sol_core.models.cache import KVCache
from sol_core.progress import no_stop

BLOCK = 512  # tokens; also between two looks at should_stop


@dataclass(frozen=True, slots=True)
class PrefixState:
    """Observation that the dense prefix's last token left for step 0, B sequences.

    Attributes:
        mid_hidden, concentration: see StepObservation; None when the prefill was not observed.
    """

    hidden: Tensor  # [B, C] fp32, after the final norm
    mid_hidden: Tensor | None = None
    concentration: Tensor | None = None

    @staticmethod
    def at(output: PrefillOutput, position: int) -> PrefixState:
        """The state after ``position`` (may be negative) of an observed prefill."""
        return PrefixState(
            output.hidden[:, position],
            output.mid_hidden[:, position],
            output.attention_concentration[:, position],
        )

    def rows(self, numbers: Sequence[int]) -> PrefixState:
        """The state of some sequences, in this order; one may come several times."""
        which = list(numbers)

        def picked(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[which]

        return PrefixState(self.hidden[which], picked(self.mid_hidden), picked(self.concentration))

    @staticmethod
    def joined(states: Sequence[PrefixState | None]) -> PrefixState | None:
        """The states of several prefixes as that of their sequences; None where one has none."""

        def cat(parts: list[Tensor | None]) -> Tensor | None:
            known = [part for part in parts if part is not None]
            return torch.cat(known) if len(known) == len(parts) else None

        present = [state for state in states if state is not None]
        if len(present) < len(states):
            return None
        return PrefixState(
            torch.cat([state.hidden for state in present]),
            cat([state.mid_hidden for state in present]),
            cat([state.concentration for state in present]),
        )


@dataclass(frozen=True, slots=True)
class Windows:
    """Sequences that start inside longer prefilled ones, so that one prefill serves many."""

    prefix: KVCache  # N texts, prefilled densely
    sources: tuple[int, ...]  # per sequence, which text it continues
    lengths: tuple[int, ...]  # per sequence, how many tokens of that text it starts from


def read_prefix(
    lm: FrozenLM,
    tokens: Sequence[int],
    page_size: int,
    observe: Mechanisms | None = None,
    should_stop: Callable[[], bool] = no_stop,
) -> tuple[KVCache, PrefixState | None]:
    """A cache of one sequence, read densely, and the state of its last token, if any.

    Args:
        observe: mechanisms of the policy that observes the last token; None for nobody.
        should_stop: asked before every piece; the cache then holds what was read.
    """
    cache = lm.new_cache(1, len(tokens) + 1, page_size=page_size)
    return cache, _read(lm, tokens, cache, observe, should_stop)


def read_prefixes(
    lm: FrozenLM, prefixes: Sequence[Sequence[int]], page_size: int, observe: Mechanisms | None
) -> tuple[KVCache, PrefixState]:
    """``read_prefix`` of several sequences, each of at least one token, as rows of one cache.

    The blocks that a sequence has in common with the one before it are copied.
    """
    cache = lm.new_cache(len(prefixes), max(map(len, prefixes)), page_size=page_size)
    states: list[PrefixState] = []
    for row, tokens in enumerate(prefixes):
        mine = cache.view(row, 1, current_codes=False)
        if row and (known := _common_blocks(prefixes[row - 1], tokens)):
            mine.take_tokens(cache.view(row - 1, 1, current_codes=False), known)
        state = _read(lm, tokens, mine, observe, no_stop)
        assert state is not None
        states.append(state)
        cache.own_lengths[row] = len(tokens)
    joined = PrefixState.joined(states)
    assert joined is not None
    return cache, joined


def observe_token(
    lm: FrozenLM, token: Tensor, cache: KVCache, observe: Mechanisms | None
) -> PrefixState:
    """Read one token [B, 1] densely and keep what step 0's observation needs."""
    if observe is None:
        return PrefixState(lm.prefill(token, cache)[:, -1])
    return PrefixState.at(lm.observed_prefill(token, cache, mechanisms=observe), -1)


def _read(
    lm: FrozenLM,
    tokens: Sequence[int],
    cache: KVCache,
    observe: Mechanisms | None,
    should_stop: Callable[[], bool],
) -> PrefixState | None:
    """Read what a cache of one row does not hold yet."""
    if not tokens:
        return None
    known = cache.own_lengths[0]
    fed = torch.tensor([list(tokens[known:])], device=lm.device)
    for piece in fed[:, :-1].split(BLOCK, dim=1):
        if should_stop():
            return None
        if piece.shape[1]:
            lm.prefill(piece, cache)
    return observe_token(lm, fed[:, -1:], cache, observe)


def _common_blocks(before: Sequence[int], tokens: Sequence[int]) -> int:
    """Tokens of the whole blocks that two prefixes both begin with."""
    most = (min(len(before), len(tokens)) - 1) // BLOCK
    for block in range(most):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        if list(before[part]) != list(tokens[part]):
            return block * BLOCK
    return most * BLOCK
