"""Reads a model folder: configuration, weights, tokenizer. Code in the folder never runs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from functools import cached_property
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tokenizers import Tokenizer

from sol_core.errors import ModelLoadError, UnsupportedModelError
from sol_core.files.paths import first_line, read_json_object
from sol_core.models.families.readers import SUPPORTED_FAMILIES, complete_config, refuse_family
from sol_core.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

# Class names that read any tokenizer.json.
_GENERAL = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Roles of special tokens, in transformers' order.
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
# Other fields of tokenizer_config.json that may be ignored; transformers acts on any more.
_IGNORED = {"backend", "is_local", "local_files_only", "model_max_length", "tokenizer_class"}
_FURTHER_FILES = ("added_tokens.json", "special_tokens_map.json")
_SETTINGS = "tokenizer_config.json"
_WEIGHTS_NAME = "model.safetensors"
_CONVERT = (
    "python -c \"import transformers as t; [kind.from_pretrained({name!r}).save_pretrained('NEW') "
    'for kind in (t.AutoModelForCausalLM, t.AutoTokenizer)]"'
)


def read_config(folder: Path) -> Any:
    """Read a folder's configuration and nothing else."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelLoadError(
            f"{folder} holds no config.json; it is not a Hugging Face model folder"
        )
    try:
        record = json.loads(path.read_text("utf-8"))
        quantised = record.get("quantization_config")
    except (ValueError, AttributeError, OSError) as error:
        raise ModelLoadError(f"{path} is not a JSON object: {first_line(error)}") from error
    refuse_family(record, SUPPORTED_FAMILIES)
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise UnsupportedModelError(
            f"the weights in {folder} are quantised ({method}), which is not supported: take the "
            "model's own weights, or a GGUF file"
        )
    if (config := complete_config(record)) is not None:
        return config
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, StrictDataclassError) as error:
        reason = first_line(error.__cause__ or error)
        raise ModelLoadError(f"{path} cannot be read: {reason}") from error


def end_ids(folder: Path, config: Any, tokenizer: TextCodec) -> frozenset[int]:
    """Return the token ids that end a text, from the configurations and the tokenizer."""
    sources = [config.eos_token_id, tokenizer.eos_token_id]
    path = folder / "generation_config.json"
    if path.is_file():
        try:
            sources.append(json.loads(path.read_text("utf-8")).get("eos_token_id"))
        except (ValueError, AttributeError) as error:
            raise ModelLoadError(f"{path} is not a JSON object: {first_line(error)}") from error
    return whole_ids(sources)


def whole_ids(sources: Iterable[Any]) -> frozenset[int]:
    """Collect the integers among these and in lists among these."""
    lists = [source if isinstance(source, list) else [source] for source in sources]
    return frozenset(number for some in lists for number in some if isinstance(number, int))


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read all weights of a folder. Raises: ModelLoadError for missing or damaged safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    paths = _weight_files(folder)
    if not paths:
        raise ModelLoadError(
            f"{name} holds no {_WEIGHTS_NAME}, and only safetensors weights are read: PyTorch's "
            "pytorch_model.bin becomes such, in the folder NEW, by "
            + _CONVERT.format(name=expanduser(name))
        )
    for path in paths:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(
                f"{path} is corrupt or truncated ({first_line(error)}); copy it again from where "
                "it came"
            ) from error
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that the index names, else the single file, if any."""
    index = folder / f"{_WEIGHTS_NAME}.index.json"
    if not index.is_file():
        return [folder / _WEIGHTS_NAME] if (folder / _WEIGHTS_NAME).is_file() else []
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelLoadError(f"{index} is not a weight index: {first_line(error)}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelLoadError(f"{index} names {name!r}, which is not in {folder}")
    return [folder / name for name in names]


class PlainTokenizer:
    """A folder's tokenizer; a subset of transformers' methods and attributes."""

    def __init__(self, folder: Path, backend: Tokenizer, special: dict[str, int]) -> None:
        self._folder, self._backend = folder, backend
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=False)
        self.eos_token_id = special.get("eos_token")  # end-of-text token, if any
        self.all_special_ids = list(dict.fromkeys(special.values()))  # tokens with a role

    @classmethod
    def read(cls, folder: Path) -> PlainTokenizer | None:
        """Read a folder's tokenizer; None if transformers must read it, or report an error."""
        settings = read_json_object(folder / _SETTINGS)
        further = any((folder / name).exists() for name in _FURTHER_FILES)
        general = settings.get("tokenizer_class") in _GENERAL
        if not general or further or set(settings) - {*_ROLES, *_IGNORED}:
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
        return str(self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens))

    @cached_property
    def of_transformers(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer as transformers loads it, for chat templates and batches."""
        return _of_transformers(self._folder)


# Turns text into ids and back.
TextCodec: TypeAlias = "PlainTokenizer | PreTrainedTokenizerBase"


def read_tokenizer(folder: Path, spec: ModelSpec) -> TextCodec:
    """Read a folder's tokenizer. Raises: ModelLoadError if missing or another model's."""
    tokenizer = PlainTokenizer.read(folder) or _of_transformers(folder)
    check_vocabulary(tokenizer, spec)
    return tokenizer


def _of_transformers(folder: Path) -> PreTrainedTokenizerBase:
    is_there = (folder / "tokenizer.json").is_file()
    # ``AutoTokenizer`` also reads the model's config, whose class is slow to import.
    general = is_there and read_json_object(folder / _SETTINGS).get("tokenizer_class") in _GENERAL
    kind = "PreTrainedTokenizerFast" if general else "AutoTokenizer"
    reader: Any = getattr(importlib.import_module("transformers"), kind)
    try:
        tokenizer: PreTrainedTokenizerBase = reader.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = first_line(error)
        if not is_there:
            reason = (
                "there is no tokenizer.json; copy it from where the model came, or write it with "
                "save_pretrained of transformers' tokenizer"
            )
        raise ModelLoadError(f"the tokenizer in {folder} cannot be read: {reason}") from error
    return tokenizer


def check_vocabulary(tokenizer: TextCodec, spec: ModelSpec) -> None:
    """Raise ModelLoadError for a tokenizer with more tokens than the model has embeddings."""
    # Added tokens may lie beyond: Gemma 3 has one for images, which never occurs in text.
    if tokenizer.vocab_size > spec.vocab_size:
        raise ModelLoadError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model {spec.vocab_size:,}: it "
            "belongs to another model"
        )
