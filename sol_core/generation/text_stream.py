"""Turns token ids into visible text, one token at a time.

A character may span several tokens (an emoji is four bytes, often three tokens), and
some tokenizers join words depending on what came before. So text is decoded with its
left neighbours, and held back while it ends inside a character. A stop string may span several
tokens as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sol_core.models.checkpoint import TextCodec

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_MOST_HELD_BACK = 8  # tokens, before a broken character is shown as such
_UNFINISHED = 3  # tokens at most that are the beginning of one character, of four bytes
_CONTEXT = 6  # neighbours decoded with a token


class TextStream:
    """Incremental detokenizer of one sequence."""

    def __init__(self, tokenizer: TextCodec, context: list[int] | None = None) -> None:
        self._tokenizer = tokenizer
        self._specials = set(tokenizer.all_special_ids)
        self._shown = [t for t in (context or []) if t not in self._specials][-_CONTEXT:]
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """Return the text that this token adds: "" while a character is incomplete."""
        if token in self._specials:
            return ""
        self._pending.append(token)
        if not self._added(len(self._pending)).endswith(_INCOMPLETE):
            return self._show(len(self._pending))
        if len(self._pending) < _MOST_HELD_BACK:
            return ""
        # Broken, but its last tokens may be a whole character's first.
        return self._show(len(self._pending) - _UNFINISHED)

    def flush(self) -> str:
        """Return the text still held back, broken characters as U+FFFD."""
        return self._show(len(self._pending)) if self._pending else ""

    def _added(self, count: int) -> str:
        """Return the text added by the first ``count`` tokens held back."""
        before = self._decode(self._shown)
        return self._decode(self._shown + self._pending[:count])[len(before) :]

    def _show(self, count: int) -> str:
        text = self._added(count)
        self._shown = (self._shown + self._pending[:count])[-_CONTEXT:]
        self._pending = self._pending[count:]
        return text

    def _decode(self, tokens: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


class TextUntil:
    """Visible text so far, which ends before the first of its stop strings.

    Attributes:
        text: what was added, cut where a stop string began.
    """

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stop_strings = stop_strings
        self.text = ""

    def add(self, piece: str) -> bool:
        """Add a piece; returns whether a stop string appeared."""
        known = len(self.text)
        self.text += piece
        starts = [
            self.text.find(stop, max(0, known - len(stop) + 1)) for stop in self._stop_strings
        ]
        hits = [start for start in starts if start >= 0]
        if hits:
            self.text = self.text[: min(hits)]
        return bool(hits)
