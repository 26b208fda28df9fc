"""A corpus that a function yields, registered under a name (``sol_core.extensions.corpus``)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from sol_core.corpus.documents import Split, split_of, text_hash
from sol_core.errors import CorpusError
from sol_core.extensions import CORPORA


class RegisteredTexts:
    """One side of a registered corpus, in memory.

    Attributes:
        fingerprint: hex, of all of its text.
    Raises: CorpusError where it yields anything but text.
    """

    def __init__(self, name: str, split: Split) -> None:
        digest = hashlib.sha256()
        self._texts: list[str] = []
        for text in CORPORA[name]():
            if not isinstance(text, str):
                raise CorpusError(f"the corpus {name!r} yields a {type(text).__name__}, not text")
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
            if split_of(text_hash(text)) == split:
                self._texts.append(text)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._texts)

    def texts(self, seed: int | None) -> Iterator[str]:
        """In their order, or in one that the seed decides."""
        order = list(self._texts)
        if seed is not None:
            random.Random(seed).shuffle(order)
        return iter(order)
