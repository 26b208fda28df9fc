"""Repair of text that holds halves of characters."""

from __future__ import annotations

__all__ = ["whole_characters"]


def whole_characters(text: str) -> str:
    """Return the text with lone surrogates as U+FFFD: UTF-8 and tokenizers cannot hold them."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
