"""Converts a GGUF file to a folder of safetensors weights, configuration and tokenizer.

It runs as a child process, ``python -m sol_core.files.gguf_conversion GGUF FOLDER [EOS_TOKEN]``, to
hide transformers' progress bars, which no setting turns off, and to free its memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, dequantize
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from kernels.quantised_weights import BLOCK, KINDS, GgufBlocks, unpack_blocks
from sol_core.files import gguf_header
from sol_core.files.fetch import report_progress
from sol_core.files.gguf_header import GgufHeader, GgufTensor
from sol_core.files.paths import BLOCKS_NAME

DIGIT_SPLITTING = "smollm"  # SmolLM's pre-tokenizer in GGUF
_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def convert_gguf(source: Path, folder: Path, eos_token: str | None = None) -> None:
    """Write weights, configuration, quantised blocks and tokenizer; ``eos_token`` ends answers."""
    report_progress("reading the tokenizer", 0.0)
    header = gguf_header.read_gguf_header(source)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TypeError(f"{source.name} gave a {type(tokenizer).__name__}, not a fast tokenizer")
    _fix_tokenizer(tokenizer, header, eos_token)
    tokenizer.save_pretrained(folder)
    ends = gguf_header.end_ids(header) if eos_token is None else [tokenizer.get_vocab()[eos_token]]
    _save_config(header, folder, ends or [tokenizer.eos_token_id], tokenizer.pad_token_id)
    _save_weights(header, folder)
    report_progress("converted", 1.0)


def _fix_tokenizer(
    tokenizer: PreTrainedTokenizerFast, header: GgufHeader, eos_token: str | None
) -> None:
    """Set the end-of-text token; restore the digit splitting that transformers drops."""
    tokenizer.eos_token = eos_token or tokenizer.eos_token
    if eos_token is not None or tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # Without it, two newlines before a number become two tokens instead of one.
    if header.metadata.get("tokenizer.ggml.pre") == DIGIT_SPLITTING:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


def _save_config(header: GgufHeader, folder: Path, ends: list[int], pad: int | None) -> None:
    """Save the configuration of the dequantised model."""
    family = gguf_header.FAMILIES[header.architecture]
    eos = ends[0] if len(ends) == 1 else ends
    values = {**gguf_header.config_values(header), "eos_token_id": eos, "pad_token_id": pad}
    values["architectures"] = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family]]
    config = AutoConfig.for_model(family, dtype="float32", **values)
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)


def _save_weights(header: GgufHeader, folder: Path) -> None:
    """Write the weights, and the quantised blocks of matrices in a separate file."""
    weights: dict[str, Tensor] = {}
    blocks: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    content = np.memmap(header.path, mode="r")
    names, config = gguf_header.checkpoint_names(header), gguf_header.config_values(header)
    paired = {}  # matrices with interleaved rotary rows → number of heads
    if header.architecture == "llama":
        heads = config["num_attention_heads"], config["num_key_value_heads"]
        paired = dict(zip(("attn_q", "attn_k"), heads, strict=True))
    for done, (stored, name) in enumerate(names.items()):
        report_progress("reading the weights", 0.4 + 0.4 * done / len(names))
        tensor = header.tensors[stored]
        data = content[tensor.offset : tensor.offset + tensor.num_bytes]
        rows = torch.from_numpy(data.reshape(tensor.shape[0], -1).copy())
        if count := paired.get(stored.split(".")[-2]):  # to a checkpoint's order
            rows = rows.view(count, -1, 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)
        if tensor.kind in KINDS and len(tensor.shape) == 2:
            packed = GgufBlocks(tensor.kind, rows.view(len(rows), tensor.shape[1] // BLOCK, -1))
            blocks[name], kinds[name] = packed.data, packed.kind
            weights[name] = unpack_blocks(packed)
        else:
            weights[name] = _values(rows, tensor)
        if header.architecture == "gemma3" and name.endswith("norm.weight"):
            weights[name] = weights[name].float() - 1  # the file stores 1 + weight
    report_progress("writing the weights", 0.8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(blocks, folder / BLOCKS_NAME, metadata={"kinds": json.dumps(kinds)})


def _values(rows: Tensor, tensor: GgufTensor) -> Tensor:
    """Return a tensor's values, dequantised if necessary; rows: [axis 0, bytes] uint8."""
    if tensor.kind in _PLAIN:
        return rows.view(_PLAIN[tensor.kind]).view(tensor.shape)
    values = dequantize(rows.numpy(), GGMLQuantizationType[tensor.kind])
    return torch.from_numpy(values).view(tensor.shape)


if __name__ == "__main__":
    convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
