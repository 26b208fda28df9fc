"""Local corpora: formats, the split, the cache, and every kind of bad input."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from itertools import count
from unittest.mock import Mock, patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol_core.corpus.blocks import separator_id, token_blocks
from sol_core.corpus.documents import SPLITS, question_text, some_in_chat
from sol_core.corpus.file_formats import DOCUMENT_CHARACTERS, read_text_file
from sol_core.corpus.load import load_corpus
from sol_core.errors import CorpusError
from tests.sol_core.tiny_assets import REPOSITORY, make_tokenizer, visible

ROWS = [f"Row {number} has some words of its own." for number in range(400)]
PARAGRAPHS = [f"Paragraph {number}. " + "It says a little. " * 20 for number in range(200)]


def both_sides(source, data_dir):
    return [load_corpus(str(source), data_dir=data_dir, split=split) for split in SPLITS]


def write_rows(path, rows, column="text"):
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"id": list(range(len(rows))), column: rows}), path)
    elif path.suffix == ".csv":
        path.write_text(f"id,{column}\n" + "".join(f'NA,"{row}\nsecond line"\n' for row in rows))
    else:
        path.write_text("".join(json.dumps({"id": 1, column: row}) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_tables_are_split_by_row(suffix, tmp_path):
    for column in ("text", "content", "document", "passage"):
        source = write_rows(tmp_path / f"{column}.{suffix}", ROWS, column)
        train, held_out = both_sides(source, tmp_path / "data")
        texts = [text.removesuffix("\nsecond line") for text in [*train, *held_out]]
        assert sorted(texts) == sorted(ROWS)
        sizes = [len(list(side)) for side in (train, held_out)]
        assert [train.num_documents, held_out.num_documents] == sizes
        assert 0.05 < sizes[1] / len(ROWS) < 0.15


@pytest.mark.parametrize(
    ("name", "content", "texts", "num_held_out"),
    [
        ("odd.csv", "text\nNA\n007\nnull\n1e5\n", ["007", "1e5", "NA", "null"], 1),
        ("half.jsonl", '{"text": "a \\ud800 b"}\n{"text": "c"}\n', ["a \ufffd b", "c"], 1),
        ("few.csv", "text\n" + "\n".join(ROWS[:30]), sorted(ROWS[:30]), 3),
        ("twice.csv", "text\n" + "\n".join([*ROWS[:30], *map(str.upper, ROWS[:30])]), None, 3),
    ],
)
def test_nothing_is_changed_twice_or_all_on_one_side(name, content, texts, num_held_out, tmp_path):
    (tmp_path / name).write_text(content)
    train, held_out = both_sides(tmp_path / name, tmp_path / "data")
    assert len(list(held_out)) == num_held_out
    found = sorted([*train, *held_out])
    assert found == texts if texts else len(found) == 30


def test_one_book_is_split_by_position(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("\n\n".join(PARAGRAPHS))
    train, held_out = both_sides(book, tmp_path / "data")
    assert "\n\n".join([*train, *held_out]).split() == " ".join(PARAGRAPHS).split()
    size = sum(map(len, held_out)) / book.stat().st_size
    assert 0.08 < size < 0.15
    book.write_text("One sentence.")
    assert list(load_corpus(str(book), data_dir=tmp_path)) == ["One sentence."]
    with pytest.raises(CorpusError, match=r"book\.txt is too short to be split"):
        load_corpus(str(book), data_dir=tmp_path, split="held_out")


def test_many_files_are_held_out_whole(tmp_path):
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(20):
        text = "\n\n".join(f"Book {number}. {paragraph}" for paragraph in PARAGRAPHS[:20])
        (folder / f"{number}.txt").write_text(text)
    (folder / "empty.txt").write_text("")
    (folder / ".hidden.txt").write_text("hidden")
    train, held_out = both_sides(folder, tmp_path / "data")
    sides = [{text.split(".")[0] for text in side} for side in (train, held_out)]
    assert len(sides[1]) == 2
    assert not sides[0] & sides[1]


def test_cached_once_until_the_file_changes(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", ROWS)
    data_dir = tmp_path / "data"
    first = load_corpus(str(source), data_dir=data_dir)
    made = [path.stat().st_mtime_ns for path in (data_dir / "corpora").rglob("*.parquet")]
    assert load_corpus(str(source), data_dir=data_dir) == first
    assert made == [path.stat().st_mtime_ns for path in (data_dir / "corpora").rglob("*.parquet")]
    write_rows(source, ROWS[:300])
    changed = load_corpus(str(source), data_dir=data_dir)
    assert changed.fingerprint != first.fingerprint
    assert changed.source == first.source
    assert len(visible(data_dir / "corpora")) == 1


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=30),
    st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\r\n", " "]),
)
def test_cutting_a_text_loses_nothing(tmp_path_factory, parts, border):
    text = border.join(part * 40 for part in parts)
    path = tmp_path_factory.mktemp("cut") / "text.txt"
    path.write_bytes(text.encode())
    with patch("sol_core.corpus.file_formats._count_characters", Mock(return_value=len(text))):
        documents = list(read_text_file(path))
    assert "".join("".join(document.split()) for document, *_ in documents) == "".join(text.split())
    assert all(0 <= start < stop <= 1 for _, start, stop in documents)
    assert all(len(document) <= 4 * DOCUMENT_CHARACTERS for document, *_ in documents)


BAD_FILES = {
    "empty.txt": (b"", "is empty"),
    "blank.txt": (b" \n\n \t ", "no text, only white space"),
    "binary.txt": (bytes(range(256)) * 10, "not a text file"),
    "utf-16.txt": ("text".encode("utf-16"), "not a text file.*if it is UTF-16, save it as UTF-8"),
    "damaged.txt": ("é".encode() * 9 + b"\xff\xfe", "is not UTF-8"),
    "japanese.txt": (("吾輩は猫である。" * 9).encode("shift_jis"), "iconv"),
    "russian.txt": ("Мороз и солнце; день чудесный! ".encode("cp1251") * 9, "iconv"),
    "json.jsonl": (b'{"text": "a"}\n\n{"text": \n', "line 3 is not valid JSON"),
    "deep.jsonl": (b"[" * 200_000, "line 1 is not valid JSON"),
    "number.jsonl": (b'{"text": 5}\n', "holds an int, not text"),
    "column.jsonl": (b'{"id": 1, "body": "a"}\n', "its columns: id, body"),
    "ragged.csv": (b"id,text\n1,a\n2,b,c\n", "line 3 is not well-formed CSV: 3 columns"),
    "quoted.csv": (b'id,text\n1,"a\n', "not well-formed CSV"),
    "fake.parquet": (b"PAR1 no", "not a readable Parquet file"),
    "numbers.parquet": (pa.table({"text": [1, 2]}), "holds int64, not text"),
    "body.parquet": (pa.table({"body": ["a"]}), "Rename the one with the text to 'text'"),
    "notes.docx": (b"x", r"supported: \.txt, \.jsonl, \.csv, \.parquet"),
    "missing.txt": (None, "there is no file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named_with_the_reason(name, tmp_path):
    content, reason = BAD_FILES[name]
    if isinstance(content, pa.Table):
        pq.write_table(content, tmp_path / name)
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=reason) as caught:
        load_corpus(str(tmp_path / name), data_dir=tmp_path / "data")
    assert name in str(caught.value)
    assert not list((tmp_path / "data").glob("corpora/*.parquet"))


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    """Opening one waits for somebody who writes, and nothing could end that."""
    pipe, folder = tmp_path / "pipe.txt", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    os.mkfifo(folder / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for source in (pipe, tmp_path / "zero.txt"):
        refused = f"{source.resolve()} is a pipe, a device or a socket"
        with pytest.raises(CorpusError, match=refused):
            load_corpus(str(source), data_dir=tmp_path / "data")
    with pytest.raises(CorpusError, match="holds no"):
        load_corpus(str(folder), data_dir=tmp_path / "data")


def test_a_full_or_unusable_data_directory(tmp_path, monkeypatch):
    source = write_rows(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as patch:
        refused = PermissionError(errno.EACCES, "Permission denied", str(source))
        patch.setattr("sol_core.corpus.file_formats._count_characters", Mock(side_effect=refused))
        with pytest.raises(CorpusError, match=r"cannot read .*rows\.jsonl: Permission denied"):
            load_corpus(str(source), data_dir=tmp_path / "data")
    with pytest.raises(CorpusError, match=r"cannot keep the text of .*--data-dir"):
        load_corpus(str(source), data_dir=tmp_path / "file" / "data")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(CorpusError, match="is full"):
        load_corpus(str(source), data_dir=tmp_path / "data")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv"])
def test_encodings(suffix, encoding, tmp_path):
    sentence = "Zoë's café — “naïve”."
    text = {
        "txt": f"{sentence}\r\n",
        "jsonl": json.dumps({"text": sentence}, ensure_ascii=False) + "\n",
        "csv": f'text\n"{sentence}"\n',
    }[suffix]
    (tmp_path / f"t.{suffix}").write_bytes(text.encode(encoding))
    corpus = load_corpus(str(tmp_path / f"t.{suffix}"), data_dir=tmp_path)
    assert list(corpus) == [sentence]
    (tmp_path / f"t.{suffix}").write_bytes(text.encode("cp1252"))
    with pytest.raises(
        CorpusError, match=r"is not UTF-8 .*: save it as UTF-8, in an editor or with: iconv"
    ):
        load_corpus(str(tmp_path / f"t.{suffix}"), data_dir=tmp_path)


def test_a_large_file_is_never_in_memory(tmp_path):
    """Caching 90 MB of text and reading some takes no more memory than 30 MB of it do."""
    line = json.dumps({"text": "word " * 4000}).replace("word", "%07d", 1) + "\n"
    for name, rows in (("small", 1500), ("large", 4500)):
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            file.writelines(line % number for number in range(rows))
    script = f"""
from itertools import islice
from pathlib import Path
from sol_core.corpus.load import load_corpus
for name in ("small", "large"):
    corpus = load_corpus(f"{tmp_path}/{{name}}.jsonl", data_dir=Path({str(tmp_path)!r}))
    assert len(list(islice((len(text) for text in corpus.shuffled(0)), 150))) == 150
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
    output = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    small, large = map(int, output.split())
    assert large - small < 30_000, "kB"


TOKENIZER = make_tokenizer()
END_OF_TEXT, START, END_OF_ANSWER = 0, 1, 2


@given(
    st.lists(st.text("abc \n", min_size=1), min_size=1, max_size=80),
    st.integers(2, 40),
    st.booleans(),
)
def test_blocks_are_documents_cut(documents, block_len, prompts):
    """Blocks of prompts begin with documents: what one leaves of its last document is dropped."""
    expected = []
    pending = []
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


def test_half_of_the_questions_are_put_into_the_chat_template():
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


def test_every_block_begins_as_the_tokenizer_begins_texts():
    blocks = list(token_blocks(["abc" * 20], make_tokenizer(begins_text=True), 10))
    assert len(blocks) == 6
    assert all(block[0] == START and START not in block[1:] for block in blocks)
    assert {len(block) for block in blocks} == {10}
    assert separator_id(TOKENIZER) == END_OF_TEXT, "what pretraining used"
    plain = make_tokenizer(with_end_of_text=False)
    assert separator_id(plain) == plain.eos_token_id


def test_an_endless_stream_is_read_only_as_far_as_needed():
    taken = []

    def documents():
        for number in count():
            taken.append(number)
            yield f"document {number}"

    assert len(list(token_blocks(documents(), TOKENIZER, 50, limit=3))) == 3
    assert len(taken) < 100


def test_a_huge_document_is_tokenised_in_pieces():
    text = "some words " * 10_000
    blocks = list(token_blocks([text], TOKENIZER, 1000))
    assert len(blocks) == (len(text) + 1) // 1000
    assert TOKENIZER.decode([token for block in blocks for token in block]) in text
    assert len(list(token_blocks(["x" * 50_000], TOKENIZER, 1000))) == 50, "without any space"


def test_the_seed_decides_the_order(tmp_path):
    texts = [f"{number:04d} is a number" for number in range(2000)]
    (tmp_path / "numbers.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    corpus = load_corpus(str(tmp_path / "numbers.jsonl"), data_dir=tmp_path)

    def first_blocks(seed):
        documents = corpus if seed is None else corpus.shuffled(seed)
        return list(token_blocks(documents, TOKENIZER, 100, limit=20))

    assert first_blocks(1) == first_blocks(1)
    assert first_blocks(1) != first_blocks(2)
    assert first_blocks(None) == first_blocks(None) != first_blocks(1)


def test_too_little_text_says_how_much_there_was(tmp_path):
    (tmp_path / "short.txt").write_text("abc")
    corpus = load_corpus(str(tmp_path / "short.txt"), data_dir=tmp_path)
    for documents in (corpus, corpus.shuffled(0)):
        with pytest.raises(CorpusError, match=r"short\.txt gave 4 tokens, a block needs 529"):
            list(token_blocks(documents, TOKENIZER, 529))
