"""Two generations side by side: where they agree, and where they first part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

__all__ = ["Stretch", "align", "first_divergence"]

SHORTEST = 3  # tokens; shorter agreements within a difference are chance


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring tokens of both sides that belong together.

    Attributes:
        same: both sides have the same tokens here.
        first, second: [start, stop) in each side; an empty range where a side has nothing.
    """

    same: bool
    first: tuple[int, int]
    second: tuple[int, int]


def first_divergence(first: Sequence[int], second: Sequence[int]) -> int | None:
    """The first place at which tokens differ or only one side goes on; None when all agree."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return None if len(first) == len(second) else min(len(first), len(second))


def align(first: Sequence[int], second: Sequence[int]) -> list[Stretch]:
    """Both sides cut into stretches that are the same or differ, in turn, from start to end.

    The common beginning is always a stretch of its own; later agreements count from
    ``SHORTEST`` tokens on.
    """
    parted = first_divergence(first, second)
    shared = min(len(first), len(second)) if parted is None else parted
    matcher = SequenceMatcher(None, first[shared:], second[shared:], autojunk=False)
    agreed = [
        (shared + block.a, shared + block.b, block.size)
        for block in matcher.get_matching_blocks()
        if block.size >= SHORTEST
    ]
    stretches = [Stretch(True, (0, shared), (0, shared))] if shared else []
    one = other = shared
    for a, b, size in [*agreed, (len(first), len(second), 0)]:
        if a > one or b > other:
            stretches.append(Stretch(False, (one, a), (other, b)))
        if size:
            stretches.append(Stretch(True, (a, a + size), (b, b + size)))
        one, other = a + size, b + size
    return stretches
