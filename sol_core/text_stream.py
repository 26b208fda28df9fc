"""Turns token ids into visible text, one token at a time.

A character may span several tokens (an emoji is four bytes, often three tokens), and
some tokenizers join words depending on what came before. So text is decoded with its
left neighbours, and held back while it ends inside a character.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TextStream"]

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 8  # tokens held back before a broken character is shown as such
_CONTEXT = 6  # neighbours decoded with a token


class TextStream:
    """Incremental detokenizer of one sequence."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, context: list[int] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._specials = set(tokenizer.all_special_ids)
        self._shown = [t for t in (context or []) if t not in self._specials][-_CONTEXT:]
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """What this token adds to the text: "" while a character is incomplete."""
        if token in self._specials:
            return ""
        self._pending.append(token)
        text = self._added()
        if text.endswith(_INCOMPLETE) and len(self._pending) < _LONGEST_CHARACTER:
            return ""
        return self._show(text)

    def flush(self) -> str:
        """What is still held back, broken characters as U+FFFD."""
        return self._show(self._added()) if self._pending else ""

    def _added(self) -> str:
        before = self._decode(self._shown)
        return self._decode(self._shown + self._pending)[len(before) :]

    def _show(self, text: str) -> str:
        self._shown = (self._shown + self._pending)[-_CONTEXT:]
        self._pending = []
        return text

    def _decode(self, tokens: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
