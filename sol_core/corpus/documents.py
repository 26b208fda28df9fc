"""Documents, and the side of the train / held-out split to which each belongs.

The side follows from a hash of the text (or of what it belongs to, such as an article's
title), so it is the same in every run and the same text is never on both sides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")
HELD_OUT_SHARE = 0.1
_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Document:
    """One text and where it came from (a file name, or a source of the built-in text)."""

    text: str
    origin: str
    split: Split


def text_hash(text: str) -> int:
    """64-bit hash of a text that ignores case and white space."""
    return stable_hash(" ".join(text.casefold().split()))


def split_of(key: int | str) -> Split:
    """The side of whatever ``key`` identifies; one in ten is held out."""
    number = stable_hash(str(key))
    return "held_out" if number < HELD_OUT_SHARE * 256**_HASH_BYTES else "train"


def stable_hash(text: str) -> int:
    """64-bit hash of a text, the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES)
    return int.from_bytes(digest.digest(), "big")
