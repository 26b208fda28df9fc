"""Turn a GGUF file into a folder of safetensors weights, configuration and tokenizer.

The matrices' blocks are kept beside the weights that transformers unpacked from them.

Run as a child process (``python -m sol_core.files.gguf_conversion GGUF FOLDER EOS_TOKEN``) by
``assets.py``: reading a GGUF takes 1.2 GB and draws progress bars that no setting turns
off, and a child gives both back. Weights come out in fp32, dequantised by transformers.
Half-made output is the caller's to hide; nothing here is atomic.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH, GGUFReader, get_tensor_name_map
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from kernels.quantised_weights import KINDS, GgufBlocks, unpack_blocks
from sol_core.files.child_process import report_progress
from sol_core.files.places import BLOCKS_NAME

__all__ = ["convert_gguf"]

HEAD_WEIGHT = "lm_head.weight"
DIGIT_SPLITTING = "smollm"  # GGUF's name of SmolLM's pre-tokenizer


def convert_gguf(source: Path, folder: Path, eos_token: str) -> None:
    """Write model.safetensors, config.json, generation_config.json and the tokenizer.

    Args:
        source: a GGUF file of a family that transformers can read.
        folder: an existing, empty folder.
        eos_token: the token that ends the model's answer; it also pads.
    """
    report_progress("reading the weights", 0.1)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    report_progress("reading the tokenizer", 0.75)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TypeError(f"{source.name} gave a {type(tokenizer).__name__}, not a fast tokenizer")
    reader = GGUFReader(source)
    _fix_tokenizer(tokenizer, reader, eos_token)
    report_progress("writing the weights", 0.9)
    _save_model(model, folder, tokenizer.get_vocab()[eos_token])
    _save_blocks(reader, model, folder)
    tokenizer.save_pretrained(folder)
    report_progress("converted", 1.0)


def _fix_tokenizer(tokenizer: PreTrainedTokenizerFast, reader: GGUFReader, eos_token: str) -> None:
    """Set the end-of-text token, and the digit splitting that transformers drops.

    Without the latter ``"\\n\\n1"`` becomes two newline tokens where the model was trained on one.
    """
    tokenizer.eos_token = eos_token
    tokenizer.pad_token = eos_token
    field = reader.fields.get("tokenizer.ggml.pre")
    if field is not None and bytes(field.parts[field.data[0]]).decode() == DIGIT_SPLITTING:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


def _save_model(model: PreTrainedModel, folder: Path, eos_token_id: int) -> None:
    """Save weights and configuration as of a model that was never quantised.

    ``model.save_pretrained`` refuses a model that came out of a GGUF file.
    """
    config = model.config
    for attribute in ("quantization_config", "_model_name_or_path"):
        if attribute in vars(config):
            delattr(config, attribute)
    config.architectures = [type(model).__name__]
    for settings in (config, model.generation_config):
        settings.eos_token_id = eos_token_id
        settings.pad_token_id = eos_token_id
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        weights.pop(HEAD_WEIGHT, None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def _save_blocks(reader: GGUFReader, model: PreTrainedModel, folder: Path) -> None:
    """Write the blocks of those matrices that they reproduce to the last bit."""
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    found: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    for name, weight in model.state_dict().items():
        tensor = stored.get(f"{names.get_name(name.removesuffix('.weight'))}.weight")
        if tensor is None or weight.dim() != 2 or tensor.tensor_type.name not in KINDS:
            continue
        kind = tensor.tensor_type.name
        data = torch.from_numpy(np.array(tensor.data)).view(len(weight), -1, KINDS[kind][1])
        for rows in (data, *_other_orders(data, model.config)):
            if torch.equal(unpack_blocks(GgufBlocks(kind, rows)), weight):
                found[name], kinds[name] = rows.contiguous(), kind
                break
    save_file(found, folder / BLOCKS_NAME, metadata={"kinds": json.dumps(kinds)})


def _other_orders(data: Tensor, config: Any) -> Iterator[Tensor]:
    """Rows of queries and of keys in a checkpoint's order: the file pairs the halves of a head."""
    for heads in (config.num_attention_heads, config.num_key_value_heads):
        if len(data) % (2 * heads) == 0:
            yield data.view(heads, -1, 2, *data.shape[1:]).transpose(1, 2).reshape(data.shape)


if __name__ == "__main__":
    convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
