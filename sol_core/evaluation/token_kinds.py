"""What kind of token a token is, decided from its text and the text before it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["KINDS", "predicted_kinds", "token_kind", "token_texts"]

KINDS = ("word start", "continuation", "number", "punctuation", "name", "other")
_SPACE_MARKS = ("Ġ", "▁")  # how byte-level and SentencePiece vocabularies write a space
_QUOTES = "\"'“”\u2018’«»"
_SENTENCE_ENDS = ".!?:;\n([*#" + _QUOTES


def token_texts(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[str]:
    """Each token's own text, its leading space kept; partial characters as U+FFFD."""
    specials = set(tokenizer.all_special_ids)
    texts = []
    for token, symbol in zip(tokens, tokenizer.convert_ids_to_tokens(list(tokens)), strict=True):
        text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
        if symbol.startswith(_SPACE_MARKS) and not text.startswith(" "):
            text = " " + text  # SentencePiece drops the space of a lone token
        texts.append("" if token in specials else text)
    return texts


def predicted_kinds(tokenizer: PreTrainedTokenizerBase, path: Sequence[int]) -> list[str]:
    """The kind of every token of a path but its first, which is fed and not predicted."""
    return [token_kind(text, before) for before, text in pairwise(token_texts(tokenizer, path))]


def token_kind(text: str, before: str = "") -> str:
    """One of ``KINDS``.

    A name is a capitalised word in the middle of a sentence: at a sentence's start every
    word is capitalised, so there it counts as a word start.

    Args:
        text: the token's text, leading space included; "" for a special token.
        before: the text of the tokens before it, as much as is known.
    """
    word = text.strip()
    if not word or "\ufffd" in word:
        return "other"
    if word[0].isdigit():
        return "number"
    if not any(character.isalnum() for character in word):
        return "punctuation" if word.isascii() or _is_typographic(word) else "other"
    starts = text[0].isspace() or not before or not _joins(before[-1])
    if not starts:
        return "continuation"
    if word[0].isupper() and word != "I" and not _ends_sentence(before):
        return "name"
    return "word start" if word[0].isalpha() else "other"


def _joins(character: str) -> bool:
    """Whether letters right after this character continue its word: "don" + "'" + "t"."""
    return character.isalnum() or character in "'’-"


def _ends_sentence(before: str) -> bool:
    stripped = before.rstrip(" ")
    return not stripped or stripped[-1] in _SENTENCE_ENDS


def _is_typographic(word: str) -> bool:
    return all(character in "–—…·•" + _QUOTES or character.isascii() for character in word)
