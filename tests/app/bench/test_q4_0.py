"""The Q4_0 copy of a GGUF file: layers rounded, the rest as it is; made once, always the same."""

import gguf
import numpy as np
import pytest

from app.bench.q4_0 import ensure_q4_0
from sol_core.files.gguf_header import read_gguf_header

Q4_1, Q8_0 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0
LAYER, HEAD, NORM = "blk.0.ffn_up.weight", "token_embd.weight", "blk.0.ffn_norm.weight"


@pytest.fixture
def weights():
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal((8, 64), np.float32) for name in (LAYER, HEAD)}


@pytest.fixture
def source(tmp_path, weights):
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_token_list(["a", "b"])
    for name, kind in ((LAYER, Q4_1), (HEAD, Q8_0)):
        writer.add_tensor(name, gguf.quantize(weights[name], kind), raw_dtype=kind)
    writer.add_tensor(NORM, np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_layers_are_rounded_and_the_rest_is_as_it_was(source, tmp_path):
    made = ensure_q4_0(source, tmp_path, lambda message, share: None)
    header, before = read_gguf_header(made), read_gguf_header(source)
    kinds = {name: tensor.kind for name, tensor in header.tensors.items()}
    assert kinds == {LAYER: "Q4_0", HEAD: "Q8_0", NORM: "F32"}
    shapes = {name: tensor.shape for name, tensor in before.tensors.items()}
    assert {name: tensor.shape for name, tensor in header.tensors.items()} == shapes
    kept = {name: value for name, value in before.metadata.items() if name != "general.file_type"}
    assert header.metadata == kept | {"general.file_type": gguf.LlamaFileType.MOSTLY_Q4_0}
    old, new = (
        {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
        for reader in (gguf.GGUFReader(source), gguf.GGUFReader(made))
    )
    assert np.array_equal(old[HEAD], new[HEAD])
    assert 0 < np.abs(old[LAYER] - new[LAYER]).max() < 0.3  # half a step of the largest weights


def test_it_is_made_once_and_the_same_every_time(source, tmp_path):
    first = ensure_q4_0(source, tmp_path, lambda message, share: None)
    stamp, content = first.stat().st_mtime_ns, first.read_bytes()
    again = ensure_q4_0(source, tmp_path, lambda message, share: pytest.fail(message))
    assert (again, again.stat().st_mtime_ns) == (first, stamp)
    first.unlink()
    assert ensure_q4_0(source, tmp_path, lambda message, share: None).read_bytes() == content
