"""Kinds of token, and spend against difficulty on hand-made tables."""

import numpy as np
import pytest

from sol_core.corpus.token_kinds import predicted_kinds, token_kind, token_texts
from sol_core.evaluation.statistics import difficulty_report
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


PROSE = """The captain said: wait for example: here (see note 3);
If you return (and you will) before five, import duty is due.
| a | table | of 3 |""".splitlines()
CODE = """def f(x):
    return x
items[0] = other
import numpy as np
if (a) {
}
else:
x -> y
call(me);
self.run(3)
#include <stdio.h>
<p>text</p>""".splitlines()


@pytest.mark.parametrize("line", PROSE + CODE)
def test_lines_of_code_are_told_from_prose(line):
    tokenizer = byte_tokenizer()
    kinds = predicted_kinds(tokenizer, tokenizer(f"\n{line}\nEnd")["input_ids"])
    assert (set(kinds[: len(line)]) == {"code"}) == (line in CODE)
    assert ("code" in kinds) == (line in CODE)
    assert "code" not in kinds[-3:]


def test_between_fences_everything_is_code():
    tokenizer = byte_tokenizer()
    kinds = predicted_kinds(tokenizer, tokenizer("a\n```\njust words\n```\nb")["input_ids"])
    assert [kind == "code" for kind in kinds] == [False] + [True] * 19 + [False]


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


def _data(spend, kl):
    return {
        "surprisal": np.asarray([1.0, 2.0, 3.0, 4.0]),
        "entropy": np.asarray([4.0, 3.0, 2.0, 1.0]),
        "kinds": ["name", "number", "name", "punctuation"],
        "spend": spend,
        "kl": kl,
    }


def test_spend_that_follows_surprisal():
    rising, falling = np.asarray([0.1, 0.2, 0.3, 0.4]), np.asarray([0.9, 0.8, 0.5, 0.4])
    first = np.stack([rising, falling, np.full(4, 8.0)], -1)
    second = np.stack([rising * 2, rising, np.full(4, 16.0)], -1)
    report = difficulty_report(**_data(np.stack([first, second]), np.zeros((2, 4))))
    found = [report["correlation"][axis] for axis in ("keep", "channels", "bits")]
    for row, follows in zip(found, (1.0, 0.0, 0.0), strict=True):
        assert row == pytest.approx({"surprisal": follows, "entropy": -follows})


def test_means_by_kind():
    spend = np.zeros((2, 4, 3))
    spend[0, :, 0] = [0.1, 0.2, 0.3, 0.4]
    spend[1, :, 0] = [0.5, 0.6, 0.7, 0.8]
    spend[:, :, 2] = 8.0
    kl = np.asarray([[1.0, 0.0, 3.0, 0.0], [0.0, 2.0, 0.0, 0.0]])
    kinds = difficulty_report(**_data(spend, kl))["kinds"]
    assert list(kinds) == ["number", "punctuation", "name"]
    of_all = {"keep": 0.4, "channels": 0.0, "bits": 8.0, "kl": 1.0}
    assert kinds["name"] == pytest.approx({"share": 0.5, **of_all})
    assert kinds["number"] == pytest.approx({"share": 0.25, **of_all})
