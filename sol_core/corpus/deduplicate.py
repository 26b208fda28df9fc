"""Drop passages that repeat others, and group those that come from one article.

Passages are compared by hashed runs of eight words ("shingles", Broder 1997), of which
one in four is kept. Half of a passage's shingles in a longer passage: it is a repeat (an
edited copy, or contained in it) and goes. A tenth: the two overlap, and must lie on the
same side of the train / held-out split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sol_core.corpus.documents import stable_hash, text_hash

SHINGLE_WORDS = 8
SHINGLE_SAMPLE = 4
REPEAT_SHARE = 0.5
OVERLAP_SHARE = 0.1
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, the data set it is from, and the article it is part of where that is known."""

    text: str
    source: str
    article: str | None


def group_passages(passages: Sequence[Passage]) -> Iterator[tuple[Passage, str]]:
    """Yield every passage that is kept, in the given order, with its group's key.

    The key depends on the group's texts and titles alone, so it is stable between runs.
    """
    longest_first = sorted(
        range(len(passages)), key=lambda index: (-len(passages[index].text), passages[index].text)
    )
    owners: dict[int, int] = {}  # shingle -> the longest passage that has it
    groups = _Groups()
    kept: set[int] = set()
    for index in longest_first:
        shingles = _shingles(passages[index].text)
        shared = Counter(owners[shingle] for shingle in shingles if shingle in owners)
        if shared and shared.most_common(1)[0][1] >= REPEAT_SHARE * len(shingles):
            continue
        kept.add(index)
        key = _own_key(passages[index])
        groups.add(key)
        for other, count in shared.items():
            if count >= OVERLAP_SHARE * len(shingles):
                groups.join(key, _own_key(passages[other]))
        for shingle in shingles:
            owners.setdefault(shingle, index)
    for index in sorted(kept):
        yield passages[index], groups.find(_own_key(passages[index]))


def _own_key(passage: Passage) -> str:
    if passage.article is not None:
        return f"{passage.source}:{passage.article}"
    return f"{text_hash(passage.text):016x}"


def _shingles(text: str) -> set[int]:
    """Hashes of the text's eight-word runs, one in four; of all of a short text, at least one."""
    words = _WORD.findall(text.casefold())
    runs = [
        " ".join(words[start : start + SHINGLE_WORDS])
        for start in range(max(1, len(words) - SHINGLE_WORDS + 1))
    ]
    hashes = {stable_hash(run) for run in runs}
    return {value for value in hashes if value % SHINGLE_SAMPLE == 0} or {min(hashes)}


class _Groups:
    """Union-find over string keys; the smallest key of a group names it."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def add(self, key: str) -> None:
        self._parents.setdefault(key, key)

    def find(self, key: str) -> str:
        while (parent := self._parents[key]) != key:
            key = parent
        return key

    def join(self, first: str, second: str) -> None:
        small, large = sorted((self.find(first), self.find(second)))
        self._parents[large] = small
