"""Token blocks: exact lengths, nothing lost, bounded memory, clear errors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol_core.corpus.blocks import separator_id, token_blocks
from sol_core.corpus.documents import question_text, some_in_chat
from sol_core.corpus.load import load_corpus
from sol_core.errors import ConfigError, CorpusError
from tests.sol_core.tiny_assets import make_tokenizer

TOKENIZER = make_tokenizer()
END_OF_TEXT, START, END_OF_ANSWER = 0, 1, 2


@given(
    st.lists(st.text("abc \n", min_size=1), min_size=1, max_size=80),
    st.integers(2, 40),
    st.booleans(),
)
def test_blocks_are_documents_cut(documents: list[str], block_len: int, prompts: bool) -> None:
    """Blocks of prompts begin with documents: what one leaves of its last document is dropped."""
    expected: list[list[int]] = []
    pending: list[int] = []
    for document in documents:
        pending += [*TOKENIZER(document)["input_ids"], END_OF_TEXT]
        whole = len(pending) // block_len
        expected += [pending[n * block_len : (n + 1) * block_len] for n in range(whole)]
        pending = [] if whole and prompts else pending[whole * block_len :]
    if expected:
        assert list(token_blocks(documents, TOKENIZER, block_len, prompts=prompts)) == expected
    else:
        with pytest.raises(CorpusError, match=f"gave {len(pending)} tokens"):
            list(token_blocks(documents, TOKENIZER, block_len, prompts=prompts))


def test_half_of_the_questions_are_put_into_the_chat_template() -> None:
    tokenizer = make_tokenizer()
    documents = [question_text(f"a {'b ' * n}", "c\nc") for n in range(40)]
    assert documents[1] == "Question: a b\nAnswer: c\nc"
    assert [some_in_chat(document, tokenizer) for document in documents] == documents  # no template
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}"
    found = [some_in_chat(document, tokenizer) for document in documents]
    changed = [n for n, document in enumerate(documents) if found[n] != document]
    assert 10 < len(changed) < 30
    number = changed[-1]
    assert found[number] == f"user=a {'b ' * number}".rstrip() + ";assistant=c\nc;"
    assert some_in_chat("Question: why?\nBecause.", tokenizer) == "Question: why?\nBecause."


def test_every_block_begins_as_the_tokenizer_begins_texts() -> None:
    blocks = list(token_blocks(["abc" * 20], make_tokenizer(begins_text=True), 10))
    assert len(blocks) == 6
    assert all(block[0] == START and START not in block[1:] for block in blocks)
    assert {len(block) for block in blocks} == {10}
    assert separator_id(TOKENIZER) == END_OF_TEXT, "what pretraining used"
    plain = make_tokenizer(with_end_of_text=False)
    assert separator_id(plain) == plain.eos_token_id


def test_an_endless_stream_is_read_only_as_far_as_needed() -> None:
    taken: list[int] = []

    def documents() -> Iterator[str]:
        for number in count():
            taken.append(number)
            yield f"document {number}"

    assert len(list(token_blocks(documents(), TOKENIZER, 50, limit=3))) == 3
    assert len(taken) < 100
    assert len(list(token_blocks(documents(), TOKENIZER, 50, limit=3, seed=0))) == 3


def test_a_huge_document_is_tokenised_in_pieces() -> None:
    text = "some words " * 10_000
    blocks = list(token_blocks([text], TOKENIZER, 1000))
    assert len(blocks) == (len(text) + 1) // 1000
    assert TOKENIZER.decode([token for block in blocks for token in block]) in text
    assert len(list(token_blocks(["x" * 50_000], TOKENIZER, 1000))) == 50, "without any space"


@pytest.mark.parametrize("from_corpus", [True, False])
def test_the_seed_decides_the_order(from_corpus: bool, tmp_path: Path) -> None:
    texts = [f"{number:04d} is a number" for number in range(2000)]
    (tmp_path / "numbers.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    corpus = load_corpus(str(tmp_path / "numbers.jsonl"), data_dir=tmp_path)

    def first_blocks(seed: int | None) -> list[list[int]]:
        documents = corpus if from_corpus else list(corpus)
        return list(token_blocks(documents, TOKENIZER, 100, limit=20, seed=seed))

    assert first_blocks(1) == first_blocks(1)
    assert first_blocks(1) != first_blocks(2)
    assert first_blocks(None) == first_blocks(None) != first_blocks(1)


def test_too_little_text_says_how_much_there_was(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("abc")
    corpus = load_corpus(str(tmp_path / "short.txt"), data_dir=tmp_path)
    for seed in (None, 0):
        with pytest.raises(CorpusError, match=r"short\.txt gave 4 tokens, a block needs 529"):
            list(token_blocks(corpus, TOKENIZER, 529, seed=seed))
    with pytest.raises(ConfigError, match="block_len must be 2 or more, got 1"):
        token_blocks(["a"], TOKENIZER, 1)
    with pytest.raises(ConfigError, match="limit must be 1 or more, got 0"):
        token_blocks(["a"], TOKENIZER, 5, limit=0)
