"""Loads the texts of an evaluation: blocks of tokens that the policy was not trained on.

If the policy was trained on the corpus (same fingerprint), only its held-out side is used, else
both sides.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sol_core.corpus.blocks import token_blocks
from sol_core.corpus.documents import SPLITS, Split
from sol_core.corpus.load import Corpus, load_corpus
from sol_core.errors import CorpusError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class EvaluationTexts:
    """Tokens that an evaluation scores, and the corpus they are from."""

    corpus: str  # short display name
    fingerprint: str  # the whole corpus'
    held_out_only: bool  # whether the policy was trained on this corpus
    blocks: list[list[int]]  # N blocks of equal length, token ids


def load_texts(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    count: int,
    block_len: int,
    seed: int,
    trained_on: Collection[str],
    data_dir: Path,
) -> EvaluationTexts:
    """Read, tokenise and cut texts; only the held-out side if the corpus is in ``trained_on``."""
    sides = _load_sides(source, data_dir)
    any_side = next(iter(sides.values()))
    held_out_only = any_side.fingerprint in trained_on
    if held_out_only:
        if "held_out" not in sides:
            raise CorpusError(
                f"the policy was trained on {source}, which has no held-out text: "
                "evaluate on another text"
            )
        sides = {"held_out": sides["held_out"]}
    documents = chain.from_iterable(side.shuffled(seed) for side in sides.values())
    blocks: list[list[int]] = []
    reason = ""
    try:
        blocks.extend(token_blocks(documents, tokenizer, block_len, limit=count))
    except CorpusError as error:
        if blocks:
            raise
        reason = f" ({error})"
    if len(blocks) < count:
        raise CorpusError(
            f"{'the held-out side of ' if held_out_only else ''}{source} holds {len(blocks)} texts "
            f"of {block_len} tokens, {count} were asked for{reason}: use a longer text, fewer "
            "texts or a shorter context"
        )
    return EvaluationTexts(any_side.name, any_side.fingerprint, held_out_only, blocks)


def _load_sides(source: str, data_dir: Path) -> dict[Split, Corpus]:
    """Load the sides that hold text; a short text may leave one empty."""
    sides: dict[Split, Corpus] = {}
    failures = []
    for split in SPLITS:
        try:
            sides[split] = load_corpus(source, data_dir=data_dir, split=split)
        except CorpusError as error:
            failures.append(error)
    if not sides:
        raise failures[0]
    return sides
