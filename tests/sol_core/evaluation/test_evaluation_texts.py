"""Which texts an evaluation reads: never what the policy was trained on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from sol_core.corpus.documents import SPLITS
from sol_core.corpus.load import load_corpus
from sol_core.errors import CorpusError
from sol_core.evaluation.texts import EvaluationTexts, load_texts
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


def _load(
    path: Path, count: int, trained_on: Collection[str] = (), seed: int = 0, block: int = BLOCK
) -> EvaluationTexts:
    return load_texts(
        str(path),
        tokenizer=TOKENIZER,
        count=count,
        block_len=block,
        seed=seed,
        trained_on=trained_on,
        data_dir=path.parent,
    )


def _documents(blocks: list[list[int]]) -> set[str]:
    """Numbers of the documents that begin in the blocks."""
    text = TOKENIZER.decode([token for block in blocks for token in block])
    return {piece[:4] for piece in text.split("<|endoftext|>")[1:-1]}


def test_unseen_text_is_used_as_a_whole_and_what_was_trained_on_is_not(numbers: Path) -> None:
    sides = [load_corpus(str(numbers), data_dir=numbers.parent, split=split) for split in SPLITS]
    train, held_out = ({text[:4] for text in side} for side in sides)
    texts = _load(numbers, 400, ["something else"])
    assert not texts.held_out_only
    assert [len(block) for block in texts.blocks] == [BLOCK] * 400
    found = _documents(texts.blocks)
    assert found & train
    assert found & held_out
    assert len(found) > 340
    assert texts.blocks[:30] != _load(numbers, 400, seed=2).blocks[:30]

    texts = _load(numbers, 20, {sides[0].fingerprint})
    assert texts.held_out_only
    assert (texts.fingerprint, texts.corpus) == (sides[0].fingerprint, "numbers.jsonl")
    assert _documents(texts.blocks) <= held_out
    with pytest.raises(CorpusError, match=r"the held-out side of .*numbers\.jsonl holds \d\d text"):
        _load(numbers, 400, {sides[0].fingerprint})


def test_too_little_or_no_text_says_how_much_there_is(tmp_path: Path) -> None:
    short, tiny, image = (tmp_path / f"{name}.txt" for name in ("short", "tiny", "image"))
    short.write_text("a few words, and then some. " * 10)
    tiny.write_text("tiny")
    image.write_bytes(b"\x00\x01\x02" * 100)
    with pytest.raises(CorpusError, match=r"short\.txt holds 1\d texts of 20 tokens, 100 were"):
        _load(short, 100)
    with pytest.raises(CorpusError, match=r"holds 0 texts of 20 tokens, 100 were .*gave 5 tokens"):
        _load(tiny, 100)
    whole = load_corpus(str(tiny), data_dir=tmp_path)
    with pytest.raises(CorpusError, match="has no held-out text: evaluate on another text"):
        _load(tiny, 2, {whole.fingerprint}, block=2)
    with pytest.raises(CorpusError, match="not a text file"):
        _load(image, 2)
