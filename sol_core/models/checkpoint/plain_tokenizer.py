"""A tokenizer read without transformers, whose import is a quarter of a start.

Most folders' tokenizer is no more than its ``tokenizer.json``, which the package below transformers
reads: then text becomes ids, and ids text, in the same way without it.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# Names of the class that reads any tokenizer.json.
_GENERAL = ("PreTrainedTokenizerFast", "TokenizersBackend")
# What a special token is for, in the order in which transformers lists them.
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
# What else tokenizer_config.json may hold here; transformers acts on anything more.
_IGNORED = {"backend", "is_local", "local_files_only", "model_max_length", "tokenizer_class"}
_FURTHER_FILES = ("added_tokens.json", "special_tokens_map.json")


def tokenizer_settings(folder: Path) -> dict[str, Any]:
    """Contents of a folder's tokenizer_config.json; empty where it cannot be read."""
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def is_general(settings: dict[str, Any]) -> bool:
    """Return whether they name the class that reads any tokenizer.json."""
    return settings.get("tokenizer_class") in _GENERAL


class PlainTokenizer:
    """A folder's tokenizer for text and ids; methods and attributes are those of transformers.

    Attributes:
        vocab_size: tokens, without those added to them.
        eos_token_id: the end-of-text token, if there is one.
        all_special_ids: of tokens with a role.
    """

    def __init__(self, folder: Path, backend: Tokenizer, special: dict[str, int]) -> None:
        self._folder, self._backend = folder, backend
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=False)
        self.eos_token_id = special.get("eos_token")
        self.all_special_ids = list(dict.fromkeys(special.values()))

    @classmethod
    def read(cls, folder: Path) -> PlainTokenizer | None:
        """A folder's tokenizer; None where transformers must read it, or say what is wrong."""
        settings = tokenizer_settings(folder)
        further = any((folder / name).exists() for name in _FURTHER_FILES)
        if not is_general(settings) or further or set(settings) - {*_ROLES, *_IGNORED}:
            return None
        roles = {role: settings[role] for role in _ROLES if settings.get(role) is not None}
        try:
            backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception:  # tokenizers raises no other
            return None
        added = backend.get_added_tokens_decoder()
        ids = {token.content: number for number, token in added.items() if token.special}
        if not all(isinstance(token, str) and token in ids for token in roles.values()):
            return None
        backend.no_truncation()
        backend.no_padding()
        return cls(folder, backend, {role: ids[token] for role, token in roles.items()})

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(
        self,
        token_ids: list[int],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """The text of ids.

        Args:
            clean_up_tokenization_spaces: without effect, since no plain tokenizer does that.
        """
        return str(self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens))

    @cached_property
    def of_transformers(self) -> PreTrainedTokenizerFast:
        """The same tokenizer of transformers, for chat templates, batches and all else."""
        from transformers import PreTrainedTokenizerFast

        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            self._folder, local_files_only=True
        )
        return tokenizer


# Turns text into ids and back; two that do it alike.
TextCodec: TypeAlias = "PlainTokenizer | PreTrainedTokenizerBase"
