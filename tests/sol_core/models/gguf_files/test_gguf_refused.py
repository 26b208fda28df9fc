"""GGUF files that cannot be loaded: each is told what is wrong before anything is made."""

import struct

import numpy as np
import pytest

from sol_core.errors import ModelLoadError, UnsupportedModelError
from tests.sol_core.models.gguf_files.gguf_cases import load, write

pytestmark = pytest.mark.usefixtures("conversions")


def _cut(share):
    def cut(path):
        write(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return cut


def _overwrite(place, content):
    def overwrite(path):
        write(path)
        whole = bytearray(path.read_bytes())
        whole[place : place + len(content)] = content
        path.write_bytes(whole)

    return overwrite


REFUSED = {
    "missing": (lambda path: None, ModelLoadError, "no such file"),
    "empty": (lambda path: path.touch(), ModelLoadError, "not a GGUF file: it begins with b''"),
    "text": (lambda path: path.write_text("Hello"), ModelLoadError, "not a GGUF.*b'Hell'.*folder"),
    "magic only": (lambda path: path.write_bytes(b"GGUF"), ModelLoadError, "damaged or truncated"),
    "cut in the header": (_cut(0.005), ModelLoadError, "damaged or truncated.*copy it again"),
    "cut in the weights": (_cut(0.9), ModelLoadError, "damaged or truncated.*copy it again"),
    "endless text": (
        _overwrite(24, struct.pack("<Q", 1 << 60)), ModelLoadError, "damaged or truncated",
    ),
    "no alignment": (
        lambda path: write(path, keys={"general.alignment": 0}), ModelLoadError, "damaged",
    ),
    "alignment of another kind": (
        lambda path: write(path, keys={"general.alignment": 8.5}), ModelLoadError, "damaged",
    ),
    "version 1": (
        _overwrite(4, struct.pack("<I", 1)), UnsupportedModelError, "version 1.*are versions 2",
    ),
    "architecture": (
        lambda path: write(path, architecture="mamba"), UnsupportedModelError,
        "architecture 'mamba', which is not supported; supported: llama, qwen2, qwen3, gemma3",
    ),
    "no tokenizer": (
        lambda path: write(path, tokenizer=False), ModelLoadError, "has no tokenizer.*take a file",
    ),
    "experts": (
        lambda path: write(path, tensors={"blk.0.ffn_gate_inp.weight": np.zeros((4, 4), "f")}),
        UnsupportedModelError, r"holds 'blk\.0\.ffn_gate_inp\.weight', which no llama",
    ),
    "yarn": (
        lambda path: write(path, keys={"{arch}.rope.scaling.type": "yarn"}),
        UnsupportedModelError, "by 'yarn', which is not supported; supported: none, linear",
    ),
    "strange factors": (
        lambda path: write(path, tensors={"rope_freqs.weight": np.full(16, 3.0, "f")},
                           keys={"{arch}.rope.freq_base": 10_000.0}),
        UnsupportedModelError, "not Llama 3's",
    ),
    "part of the head": (
        lambda path: write(path, keys={"{arch}.rope.dimension_count": 16}),
        UnsupportedModelError, "rotates 16 of a head's 32 channels",
    ),
    "one of several": (
        lambda path: write(path, keys={"split.count": 3}), ModelLoadError, "one of 3 parts.*merge",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_loaded_is_said_before_anything_is_made(name, tmp_path, conversions):
    damage, error, reason = REFUSED[name]
    path = tmp_path / "tiny.gguf"
    damage(path)
    with pytest.raises(error, match=reason) as caught:
        load(path, tmp_path / "data")
    assert str(path) in str(caught.value)
    assert conversions == []
    assert not (tmp_path / "data").exists()
