"""Kinds of token."""

from sol_core.corpus.token_kinds import predicted_kinds, token_kind, token_texts
from tests.support.tiny_language_model import byte_tokenizer

KINDS = {
    "word start": (" the/ cat", "./ Cat", "\n/Cat", " and/ I", "/Cat", " the/ 猫"),
    "name": (" the/ Cat",),
    "continuation": (" ca/ts", "'/t"),
    "number": (" in/ 1987", "3/7", " the/3rd"),
    "punctuation": (" the/,", " the/”"),
    "other": (" the/\n", " the/", " the/\ufffd", " the/☃"),
}


def test_the_kind_of_a_token():
    for kind, pairs in KINDS.items():
        for pair in pairs:
            before, text = pair.split("/")
            assert token_kind(text, before) == kind, pair


def test_token_texts_of_a_byte_vocabulary():
    tokenizer = byte_tokenizer()
    tokens = tokenizer("a b\né")["input_ids"]
    texts = token_texts(tokenizer, [*tokens, tokenizer.eos_token_id])
    assert texts == ["a", " ", "b", "\n", "\ufffd", "\ufffd", ""]
    kinds = predicted_kinds(tokenizer, tokens)
    assert kinds == ["other", "word start", "other", "other", "other"]


def test_a_space_dropped_in_decoding_is_put_back():
    class SentencePiece:
        all_special_ids = (0,)

        def convert_ids_to_tokens(self, tokens):
            return ["▁the" if token == 1 else "m" for token in tokens]

        def decode(self, tokens, **_options):
            return "the" if tokens == [1] else "m"

    assert token_texts(SentencePiece(), [1, 2]) == [" the", "m"]
