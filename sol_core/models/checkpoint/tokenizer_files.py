"""A folder's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sol_core.errors import ModelLoadError
from sol_core.files.places import first_line
from sol_core.models.checkpoint.plain_tokenizer import (
    PlainTokenizer,
    TextCodec,
    is_general,
    tokenizer_settings,
)
from sol_core.models.spec import ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read_tokenizer(folder: Path, spec: ModelSpec) -> TextCodec:
    """A folder's tokenizer. Raises: ModelLoadError where it is missing, or another model's."""
    tokenizer = PlainTokenizer.read(folder) or _of_transformers(folder)
    check_vocabulary(tokenizer, spec)
    return tokenizer


def _of_transformers(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = _tokenizer_class(folder).from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = first_line(error)
        if not (folder / "tokenizer.json").is_file():
            reason = (
                "there is no tokenizer.json; copy it from where the model came, or write it with "
                "save_pretrained of transformers' tokenizer"
            )
        raise ModelLoadError(f"the tokenizer in {folder} cannot be read: {reason}") from error
    return tokenizer


def _tokenizer_class(folder: Path) -> Any:
    """The class that the files name, if it is the general one; else whatever reads them.

    ``AutoTokenizer`` also reads the model's config, whose class is slow to import.
    """
    if is_general(tokenizer_settings(folder)) and (folder / "tokenizer.json").is_file():
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def check_vocabulary(tokenizer: TextCodec, spec: ModelSpec) -> None:
    """Raises: ModelLoadError for a tokenizer with more tokens than the model has embeddings."""
    # Added tokens may lie beyond: Gemma 3 has one for images, which text never holds.
    if tokenizer.vocab_size > spec.vocab_size:
        raise ModelLoadError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model {spec.vocab_size:,}: it "
            "belongs to another model"
        )
