"""KV caches of the texts that were read last, so that a text is read once.

The caches are only branched, never written to, so any number of runs may start from one. Texts are
kept by owner: how fast a server answers must not tell a visitor what others have read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sol_core.models.cache import KVCache

# How many of two texts' first tokens are read in the same pieces.
InCommon = Callable[[Sequence[int], Sequence[int]], int]
DEFAULT_LIMIT = 512_000_000  # bytes
LEAST_FREE = 1_000_000_000  # bytes of the machine's memory; with less, nothing is kept


@dataclass(eq=False, slots=True)
class KeptPrefix:
    """A text as it was read."""

    owner: str
    tokens: tuple[int, ...]
    cache: KVCache  # of one row, with these tokens
    states: dict[Hashable, Any] = field(default_factory=dict)  # of its last token, by observation


class KeptPrefixes:
    """The last texts of a model's runs, within a limit; the least recently used go first."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit  # bytes of all caches together; 0 keeps none
        self._kept: list[KeptPrefix] = []  # the most recently used one last
        self._lock = threading.Lock()

    def longest(
        self, owner: str, tokens: Sequence[int], in_common: InCommon
    ) -> tuple[KeptPrefix, int] | None:
        """Find the owner's text that has most in common with another one, and how much; it is then
        the most recently used."""
        with self._lock:
            mine = [kept for kept in self._kept if kept.owner == owner]
            lengths = [(in_common(kept.tokens, tokens), kept) for kept in mine]
            length, best = max(lengths, key=lambda pair: pair[0], default=(0, None))
            if best is None or length == 0:
                return None
            self._kept.remove(best)
            self._kept.append(best)
            return best, length

    def add(self, made: KeptPrefix) -> None:
        """Keep a text instead of those that it begins with, as far as the limit allows."""
        with self._lock:
            self._kept = [kept for kept in self._kept if not _is_part(kept, made)]
            if made.cache.num_bytes <= self.limit:
                self._kept.append(made)
            total = sum(kept.cache.num_bytes for kept in self._kept)
            if _is_short_of_memory():
                self._kept.clear()
            while total > self.limit and self._kept:
                total -= self._kept.pop(0).cache.num_bytes


@dataclass(frozen=True, slots=True)
class OwnersPrefixes:
    """The kept texts of one owner."""

    kept: KeptPrefixes = field(default_factory=KeptPrefixes)
    owner: str = ""


def _is_part(kept: KeptPrefix, made: KeptPrefix) -> bool:
    """Return whether another text of the same owner begins with a kept one."""
    return kept.owner == made.owner and made.tokens[: len(kept.tokens)] == kept.tokens


def _is_short_of_memory() -> bool:
    import psutil

    return bool(psutil.virtual_memory().available < LEAST_FREE)
