"""Questions with their answers: as plain text, or as a turn of a model's chat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sol_core.corpus.documents import text_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUESTION = re.compile(r"Question: (.+?)\nAnswer: (.+)", re.DOTALL)


def question_text(question: str, answer: str) -> str:
    """The document of a question and its answer."""
    return f"Question: {question.strip()}\nAnswer: {answer.strip()}"


def some_in_chat(document: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Every second question and answer in the tokenizer's chat template, if it has one; any other
    document as it is. The text decides which, so it is the same in every run."""
    match = _QUESTION.fullmatch(document)
    if match is None or not tokenizer.chat_template or text_hash(document) % 2:
        return document
    question, answer = match.groups()
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))
