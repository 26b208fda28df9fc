"""Detokenising one token at a time never loses, repeats or breaks a character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol_core.generation.sampling import TextStream
from sol_core.models.loading import LanguageModel
from tests.support.tiny_language_model import END, byte_tokenizer

TOKENIZER = byte_tokenizer()


@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_pieces_join_to_the_text(text: str) -> None:
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(token) for token in TOKENIZER(text)["input_ids"]]
    assert "".join(pieces) + stream.flush() == text


def test_a_character_appears_with_its_last_token() -> None:
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(token) for token in TOKENIZER("a🦊b")["input_ids"]]
    assert pieces == ["a", "", "", "", "🦊", "b"]


def test_a_broken_character_is_shown_at_the_end() -> None:
    stream = TextStream(TOKENIZER)
    tokens = TOKENIZER("é")["input_ids"]
    assert stream.push(tokens[0]) == ""
    assert stream.flush() == "\N{REPLACEMENT CHARACTER}"


def test_broken_bytes_are_not_held_back_for_ever() -> None:
    stream = TextStream(TOKENIZER)
    first = TOKENIZER("é")["input_ids"][0]
    assert any(stream.push(first) for _ in range(10))


def test_a_whole_character_after_broken_ones_is_shown_whole() -> None:
    stream = TextStream(TOKENIZER)
    broken = TOKENIZER("\U00040000")["input_ids"][0]
    pieces = [stream.push(token) for token in [broken] * 6 + TOKENIZER("🦊")["input_ids"]]
    assert "".join(pieces) + stream.flush() == "\N{REPLACEMENT CHARACTER}" * 6 + "🦊"


def test_special_tokens_are_invisible() -> None:
    stream = TextStream(TOKENIZER)
    assert stream.push(TOKENIZER.convert_tokens_to_ids(END)) == ""


@pytest.mark.model
@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_real_tokenizer_joins_to_the_text(default_model: LanguageModel, text: str) -> None:
    tokenizer = default_model.tokenizer
    stream = TextStream(tokenizer, tokenizer("Hello ,")["input_ids"])
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = "".join(stream.push(token) for token in tokens) + stream.flush()
    assert joined == tokenizer.decode(tokens, skip_special_tokens=True)
