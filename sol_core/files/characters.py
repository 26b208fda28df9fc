"""Text that UTF-8 can hold."""

from __future__ import annotations

__all__ = ["whole_characters"]


def whole_characters(text: str) -> str:
    """Return the text with halves of characters (lone surrogates) as U+FFFD.

    Browsers, JSON and command lines may bring them; UTF-8, and with it every tokenizer, file and
    answer, cannot hold them. Two halves that belong together become their character.
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
