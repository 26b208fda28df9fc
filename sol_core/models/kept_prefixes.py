"""Keeps the KV caches of recent texts, so that a text is read once.

Kept caches are only branched, never written, so any number of runs may start from one. They are
kept per owner, because response times must not reveal what others have read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sol_core.models.cache import KVCache

# Returns how many leading tokens of two texts are read in the same chunks.
InCommon = Callable[[Sequence[int], Sequence[int]], int]
DEFAULT_LIMIT = 512_000_000  # bytes
LEAST_FREE = 1_000_000_000  # bytes of free memory; below it, nothing is kept


@dataclass(eq=False, slots=True)
class KeptPrefix:
    """A text that was read."""

    owner: str
    tokens: tuple[int, ...]
    cache: KVCache  # one row with these tokens
    states: dict[Hashable, Any] = field(default_factory=dict)  # last token's, by observation


class KeptPrefixes:
    """Recent texts of a model, up to a limit; evicts the least recently used."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit  # total bytes; 0 keeps none
        self._kept: list[KeptPrefix] = []  # most recently used last
        self._lock = threading.Lock()

    def longest(
        self, owner: str, tokens: Sequence[int], in_common: InCommon
    ) -> tuple[KeptPrefix, int] | None:
        """Return the owner's text with the longest common prefix, and that length; mark it as
        most recently used."""
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
        """Keep a text and drop the texts that it extends, within the limit."""
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
    """One owner's kept texts."""

    kept: KeptPrefixes = field(default_factory=KeptPrefixes)
    owner: str = ""


def _is_part(kept: KeptPrefix, made: KeptPrefix) -> bool:
    """Return whether a text of the same owner begins with a kept one."""
    return kept.owner == made.owner and made.tokens[: len(kept.tokens)] == kept.tokens


def _is_short_of_memory() -> bool:
    import psutil

    return bool(psutil.virtual_memory().available < LEAST_FREE)
