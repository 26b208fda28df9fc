"""Kind of a token, from its text, the text before it and its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = ("word start", "continuation", "number", "punctuation", "name", "code", "other")
_SPACE_MARKS = ("Ġ", "▁")  # how byte-level and SentencePiece vocabularies write a space
_QUOTES = "\"'“”\u2018’«»"
_SENTENCE_ENDS = ".!?:;\n([*#" + _QUOTES
_TYPOGRAPHIC = "–—…·•" + _QUOTES
_FENCE = re.compile(r"\s*(```|~~~)")
# A line of code has signs that prose does not use, an assignment, a call, a keyword
# in the form that only code gives it.
_CODE_LINE = re.compile(
    r"[{}]\s*$|->|=>|[=!<>+*/-]=|::|&&|\|\||</\w|/>|\w\(\)|\w\.\w+\(|\w\(.*\);\s*$"
    r"|^\s*[\w.]+(\[[^\]]*\])?\s*=\s*\S"
    r"|^\s*(#include|@\w+|//|/\*)"
    r"|^\s*(def|class|fn|func|function|struct)\s+\w+\s*[(:{]"
    r"|^\s*(import [\w.]+(\s+as\s+\w+)?|from [\w.]+ import .+)\s*$"
    r"|^\s*(else|try|finally)\s*:\s*$"
    r"|^\s*(if|elif|for|while|switch|with|except|return)\b.*[()\[\]._].*[:{]\s*$"
    r"|^(\s{4,}|\t)(return|yield|raise|pass|break|continue)\b"
)


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
    """The kind of every token of a path but its first; "code" by a rule of thumb about its line."""
    texts = token_texts(tokenizer, path)
    in_code = _in_code(texts)[1:]
    pairs = zip(pairwise(texts), in_code, strict=True)
    return ["code" if code else token_kind(text, before) for (before, text), code in pairs]


def token_kind(
    text: str,  # leading space included; "" for a special token
    before: str = "",  # the text of the tokens before it, as much as is known
) -> str:
    """Return one of ``KINDS`` but "code"; a name is capitalised in the middle of a sentence."""
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


def _in_code(texts: Sequence[str]) -> list[bool]:
    """Find the tokens in a line of code; of a token with several lines the first counts."""
    is_code = []
    fenced = False
    for line in "".join(texts).splitlines(keepends=True):
        is_fence = bool(_FENCE.match(line))
        is_code += [fenced or is_fence or bool(_CODE_LINE.search(line))] * len(line)
        fenced ^= is_fence
    flags, start = [], 0
    for text in texts:
        at = start + len(text) - len(text.lstrip())
        start += len(text)
        # White space belongs to the line that it begins in.
        flags.append(bool(text) and is_code[at if at < start else start - len(text)])
    return flags
