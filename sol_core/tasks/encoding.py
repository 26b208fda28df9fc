"""Questions as tokens, in batches of about equal length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sol_core.corpus.blocks import start_of_text
from sol_core.tasks.questions import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Continuation", "batches", "encode_questions"]


@dataclass(frozen=True, slots=True)
class Continuation:
    """One choice of one question.

    Attributes:
        question, choice: their numbers.
        context: token ids read densely but for the last, at least 2.
        tokens: token ids that are scored, one decode step each; at least 1.
        characters: of the choice's text, for scores per character.
    """

    question: int
    choice: int
    context: tuple[int, ...]
    tokens: tuple[int, ...]
    characters: int


def encode_questions(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], max_tokens: int
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
            before = _encode(tokenizer, context)
            whole = _encode(tokenizer, context + text)
            tokens = (whole[len(before) :] or whole[-1:])[-(max_tokens - 2) :]
            before = whole[: len(whole) - len(tokens)]
            parted.append((number, choice, before, tokens, len(text.strip())))
    longest = max((len(tokens) for _, _, _, tokens, _ in parted), default=0)
    room = max_tokens - len(start) - longest
    found = []
    for number, choice, before, tokens, characters in parted:
        before = start + before[-room:]
        if len(before) < 2:  # something must be there to be read before the first step
            before = [int(tokenizer.eos_token_id or 0)] * (2 - len(before)) + before
        found.append(Continuation(number, choice, tuple(before), tuple(tokens), characters))
    return found


def batches(continuations: Sequence[Continuation], most: int) -> Iterator[list[int]]:
    """Numbers of continuations that run together: at most ``most``, of about equal length.

    All choices of a question are neighbours, so that they share its prefill.
    """
    by_question: dict[int, list[int]] = {}
    for index, one in enumerate(continuations):
        by_question.setdefault(one.question, []).append(index)

    def length(indices: list[int]) -> tuple[int, int]:
        ones = [continuations[index] for index in indices]
        return max(len(one.tokens) for one in ones), len(ones[0].context)

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
