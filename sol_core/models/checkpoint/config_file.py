"""A folder's config.json and generation_config.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sol_core.errors import ModelLoadError, UnsupportedModelError
from sol_core.files.places import first_line
from sol_core.models.checkpoint.plain_tokenizer import TextCodec
from sol_core.models.families import SUPPORTED_FAMILIES, complete_config, refuse_family


def read_config(folder: Path) -> Any:
    """The configuration of a folder; nothing else of it is read."""
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
    """End-of-text tokens of the generation config, the config and the tokenizer."""
    sources = [config.eos_token_id, tokenizer.eos_token_id]
    path = folder / "generation_config.json"
    if path.is_file():
        try:
            sources.append(json.loads(path.read_text("utf-8")).get("eos_token_id"))
        except (ValueError, AttributeError) as error:
            raise ModelLoadError(f"{path} is not a JSON object: {first_line(error)}") from error
    return whole_ids(sources)


def whole_ids(sources: Iterable[Any]) -> frozenset[int]:
    """The token ids among ids, lists of ids and None."""
    ids: set[int] = set()
    for source in sources:
        ids |= set(source) if isinstance(source, list) else {source}
    return frozenset(i for i in ids if isinstance(i, int))
