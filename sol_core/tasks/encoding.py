"""Questions as tokens, in batches of about equal length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sol_core.corpus.blocks import start_of_text
from sol_core.tasks.questions import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIN_CONTEXT = 2  # something must be there to be read before the first step


@dataclass(frozen=True, slots=True)
class Continuation:
    """One choice of one question.

    Attributes:
        question, choice: their numbers.
    """

    question: int
    choice: int
    context: tuple[int, ...]  # token ids read densely but for the last, at least 2
    tokens: tuple[int, ...]  # token ids that are stepped, one decode step each; at least 1
    num_bytes: int  # of the choice's text, for scores per byte
    read: int = 0  # how many of ``tokens`` come before the choice's own and are not scored
    shared: int = 0  # tokens at the start of the context that questions about the same text share


def encode_questions(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    max_tokens: int,
) -> list[Continuation]:
    """Encode every choice after its context, choices of a question side by side.

    The two are encoded as one text and parted where the context alone ends, so that a word's
    leading space falls to the choice. A text longer than ``max_tokens`` loses its beginning; rows
    take as many steps as the longest one beside them, so every context leaves room for that.
    Every context starts with the token that the model's texts start with, where it has one.
    """
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
            size = len(text.strip().encode())
            parted.append((number, choice, whole[:dense], tokens, size, len(tokens) - scored))
    longest = max((len(parts[3]) for parts in parted), default=0)
    room = max_tokens - len(start) - longest
    continuations = []
    for number, choice, before, tokens, size, read in parted:
        before = start + before[-room:]
        if (lacking := MIN_CONTEXT - len(before)) > 0:
            before = [int(tokenizer.eos_token_id or 0)] * lacking + before
        continuations.append(Continuation(number, choice, tuple(before), tuple(tokens), size, read))
    return continuations


def encode_after_texts(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
) -> list[Continuation]:
    """Encode questions that come after long texts: a text, what is asked and a choice each alone.

    Nothing is cut, so the questions of a text share its tokens.
    """
    start = start_of_text(tokenizer)
    texts = {
        text: start + _encode(tokenizer, text) for text in {question.text for question in questions}
    }
    encoded = []
    for number, question in enumerate(questions):
        text = texts[question.text]
        for choice, (context, answer) in enumerate(
            zip(question.contexts, question.choices, strict=True)
        ):
            asked, scored = _encode(tokenizer, context), _encode(tokenizer, answer)
            encoded.append(
                Continuation(
                    number,
                    choice,
                    tuple(text + asked),
                    tuple(scored),
                    len(answer.strip().encode()),
                    shared=len(text),
                )
            )
    return encoded


def batches(continuations: Sequence[Continuation], most: int) -> Iterator[list[int]]:
    """Numbers of continuations that run together: at most ``most``, of about equal length.

    All choices of a question are neighbours, so that they share its prefill. All questions of a
    long text are a batch of their own, however many they are.
    """
    if continuations and continuations[0].shared:
        by_text: dict[tuple[int, ...], list[int]] = {}
        for index, continuation in enumerate(continuations):
            by_text.setdefault(continuation.context[: continuation.shared], []).append(index)
        yield from by_text.values()
        return
    by_question: dict[int, list[int]] = {}
    for index, continuation in enumerate(continuations):
        by_question.setdefault(continuation.question, []).append(index)

    def length(indices: list[int]) -> tuple[int, int]:
        ones = [continuations[index] for index in indices]
        return max(len(continuation.tokens) for continuation in ones), len(ones[0].context)

    batch: list[int] = []
    for indices in sorted(by_question.values(), key=length):
        if batch and len(batch) + len(indices) > most:
            yield batch
            batch = []
        batch = batch + indices
    if batch:
        yield batch


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
