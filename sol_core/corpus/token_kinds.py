"""Kind of a token, from its text and the text before it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = ("word start", "continuation", "number", "punctuation", "name", "other")
_SPACE_MARKS = ("Ġ", "▁")  # how byte-level and SentencePiece vocabularies write a space
_QUOTES = "\"'“”\u2018’«»"
_SENTENCE_ENDS = ".!?:;\n([*#" + _QUOTES
_TYPOGRAPHIC = "–—…·•" + _QUOTES


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
    """The kind of every token of a path but its first."""
    return [token_kind(text, before) for before, text in pairwise(token_texts(tokenizer, path))]


def token_kind(
    text: str,  # leading space included; "" for a special token
    before: str = "",  # the text of the tokens before it, as much as is known
) -> str:
    """Return one of ``KINDS``; a name is capitalised in the middle of a sentence."""
    word = text.strip()
    if not word or "\ufffd" in word:
        return "other"
    if word[0].isdigit():
        return "number"
    if not any(character.isalnum() for character in word):
        is_plain = all(sign.isascii() or sign in _TYPOGRAPHIC for sign in word)
        return "punctuation" if is_plain else "other"
    # Letters right after these continue a word: "don" + "'" + "t".
    joins = bool(before) and (before[-1].isalnum() or before[-1] in "'’-")
    if joins and not text[0].isspace():
        return "continuation"
    sentence = before.rstrip(" ")
    if word[0].isupper() and word != "I" and sentence and sentence[-1] not in _SENTENCE_ENDS:
        return "name"
    return "word start" if word[0].isalpha() else "other"
