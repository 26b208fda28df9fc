"""Which texts an evaluation reads: never what the policy was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sol_core.corpus.load import load_corpus
from sol_core.errors import CorpusError
from sol_core.evaluation.texts import load_texts
from tests.sol_core.tiny_assets import make_tokenizer

TOKENIZER = make_tokenizer()
BLOCK = 20


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """400 documents of 20 characters."""
    path = tmp_path / "numbers.jsonl"
    texts = [f"{number:04d} is some number" for number in range(400)]
    path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    return path


def _documents(blocks: list[list[int]]) -> set[str]:
    """Numbers of the documents that begin in the blocks."""
    text = TOKENIZER.decode([token for block in blocks for token in block])
    return {piece[:4] for piece in text.split("<|endoftext|>")[1:-1]}


def _side(path: Path, split: str, data_dir: Path) -> set[str]:
    return {text[:4] for text in load_corpus(str(path), data_dir=data_dir, split=split)}  # type: ignore[arg-type]


def test_unseen_text_is_used_as_a_whole(numbers: Path, tmp_path: Path) -> None:
    request = {"source": str(numbers), "count": 400, "block_len": BLOCK, "seed": 0}
    texts = load_texts(
        tokenizer=TOKENIZER, **request, trained_on=["something else"], data_dir=tmp_path
    )
    assert not texts.held_out_only
    assert [len(block) for block in texts.blocks] == [BLOCK] * 400
    found = _documents(texts.blocks)
    assert found & _side(numbers, "train", tmp_path)
    assert found & _side(numbers, "held_out", tmp_path)
    assert len(found) > 340


def test_the_corpus_of_the_training_gives_its_held_out_side_only(
    numbers: Path, tmp_path: Path
) -> None:
    corpus = load_corpus(str(numbers), data_dir=tmp_path)
    request = {"source": str(numbers), "count": 20, "block_len": BLOCK, "seed": 0}
    texts = load_texts(
        tokenizer=TOKENIZER, **request, trained_on={corpus.fingerprint}, data_dir=tmp_path
    )
    assert texts.held_out_only
    assert texts.fingerprint == corpus.fingerprint
    assert texts.corpus == "numbers.jsonl"
    assert _documents(texts.blocks) <= _side(numbers, "held_out", tmp_path)


def test_the_seed_decides_the_order(numbers: Path, tmp_path: Path) -> None:
    def blocks(seed: int) -> list[list[int]]:
        request = {"source": str(numbers), "count": 30, "block_len": BLOCK, "seed": seed}
        return load_texts(tokenizer=TOKENIZER, **request, trained_on=(), data_dir=tmp_path).blocks

    assert blocks(1) == blocks(1)
    assert blocks(1) != blocks(2)


def test_too_little_text_says_how_much_there_is(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("a few words, and then some. " * 10)
    request = {"source": str(path), "count": 100, "block_len": BLOCK, "seed": 0}
    with pytest.raises(
        CorpusError,
        match=r"short\.txt holds 1\d texts of 20 tokens, 100 were asked for: use a longer text, "
        "fewer texts or a shorter context",
    ):
        load_texts(tokenizer=TOKENIZER, **request, trained_on=(), data_dir=tmp_path)
    path.write_text("tiny")
    with pytest.raises(CorpusError, match=r"holds 0 texts of 20 tokens, 100 were .*gave 5 tokens"):
        load_texts(tokenizer=TOKENIZER, **request, trained_on=(), data_dir=tmp_path)


def test_too_little_held_out_text_says_which_side(numbers: Path, tmp_path: Path) -> None:
    trained_on = {load_corpus(str(numbers), data_dir=tmp_path).fingerprint}
    request = {"source": str(numbers), "count": 400, "block_len": BLOCK, "seed": 0}
    with pytest.raises(CorpusError, match=r"the held-out side of .*numbers\.jsonl holds \d\d text"):
        load_texts(tokenizer=TOKENIZER, **request, trained_on=trained_on, data_dir=tmp_path)


def test_a_text_with_nothing_held_out_cannot_judge_its_own_policy(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("tiny")
    sides = {}
    for split in ("train", "held_out"):
        try:
            sides[split] = load_corpus(str(path), data_dir=tmp_path, split=split)  # type: ignore[arg-type]
        except CorpusError:
            continue
    assert list(sides) == ["train"]
    request = {"source": str(path), "count": 2, "block_len": 2, "seed": 0}
    with pytest.raises(CorpusError, match="has no held-out text: evaluate on another text"):
        load_texts(
            tokenizer=TOKENIZER,
            **request,
            trained_on={sides["train"].fingerprint},
            data_dir=tmp_path,
        )


def test_what_cannot_be_read_is_said_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "image.txt").write_bytes(b"\x00\x01\x02" * 100)
    request = {"source": str(tmp_path / "image.txt"), "count": 2, "block_len": 20, "seed": 0}
    with pytest.raises(CorpusError, match="not a text file"):
        load_texts(tokenizer=TOKENIZER, **request, trained_on=(), data_dir=tmp_path)
    request = {"source": str(tmp_path / "missing.txt"), "count": 2, "block_len": 20, "seed": 0}
    with pytest.raises(CorpusError, match=r"missing\.txt"):
        load_texts(tokenizer=TOKENIZER, **request, trained_on=(), data_dir=tmp_path)
