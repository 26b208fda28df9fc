"""Cuts a stream of documents into blocks of a fixed number of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from sol_core.corpus.documents import some_in_chat
from sol_core.corpus.load import Corpus
from sol_core.errors import CorpusError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DOCUMENTS_AT_ONCE = 32
PIECE_CHARACTERS = 20_000  # longer documents are tokenised in pieces, cut at spaces
# The separator of pretraining documents, if it differs from the end of an answer. For
# SmolLM2-135M-Instruct on stories, the first 60 tokens after a separator take 3.40 nats each with
# <|endoftext|>, 3.63 with <|im_end|>, 3.76 without one.
DOCUMENT_SEPARATORS = ("<|endoftext|>", "<|end_of_text|>")


def token_blocks(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    block_len: int,
    *,
    limit: int | None = None,
    prompts: bool = False,  # chat format for some; each document begins a block
) -> Iterator[list[int]]:
    """Yield at most ``limit`` blocks of ``block_len`` token ids. Raises: CorpusError."""
    name = documents.source if isinstance(documents, Corpus) else "the text"
    if prompts:
        documents = (some_in_chat(document, tokenizer) for document in documents)
    start = start_of_text(tokenizer)
    wanted = block_len - len(start)
    pending: list[int] = []
    num_tokens = num_blocks = 0
    is_middle = False  # pending tokens begin within a document
    for tokens, is_last in _tokenised(documents, tokenizer):
        pending += tokens
        num_tokens += len(tokens)
        while len(pending) >= wanted:
            yield start + pending[:wanted]
            del pending[:wanted]
            num_blocks += 1
            is_middle = True
            if num_blocks == limit:
                return
        if is_last and is_middle and prompts:
            pending.clear()
            is_middle = False
    if num_blocks == 0:
        raise CorpusError(
            f"{name} gave {num_tokens} tokens, a block needs {wanted}: "
            "use a longer text or a shorter context"
        )


def separator_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the separator token of documents, or None."""
    vocabulary = tokenizer.get_vocab()
    ids = [vocabulary[token] for token in DOCUMENT_SEPARATORS if token in vocabulary]
    separator: int | None = ids[0] if ids else tokenizer.eos_token_id
    return separator


def _tokenised(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[int], bool]]:
    """Yield each piece's token ids, and whether it ends its document (separator included)."""
    separator = separator_id(tokenizer)
    end = [] if separator is None else [separator]
    pieces = _pieces(documents)
    while batch := list(islice(pieces, DOCUMENTS_AT_ONCE)):
        texts = [text for text, _ in batch]
        # verbose=False: no warning about texts longer than the model's context.
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for tokens, (_, is_last) in zip(encoded, batch, strict=True):
            yield (tokens + end if is_last else tokens), is_last


def _pieces(documents: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield pieces of bounded length, and whether each ends its document."""
    for document in documents:
        start = 0
        while len(document) - start > PIECE_CHARACTERS:
            space = document.rfind(" ", start + 1, start + PIECE_CHARACTERS)
            cut = space if space > 0 else start + PIECE_CHARACTERS
            yield document[start:cut], False
            start = cut
        yield document[start:], True


def start_of_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens before every text: [beginning-of-text] or []."""
    added: list[int] = tokenizer("")["input_ids"]
    return added if added == [tokenizer.bos_token_id] else []
