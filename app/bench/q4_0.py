"""A copy of a GGUF file whose layers are in Q4_0, the format that other programs have tuned most.

llama.cpp repacks Q4_0 for AVX-512 and has no such kernels for Q4_1; OpenVINO reads Q4_0. The
weights are those of the file, rounded by the ``gguf`` package; embeddings and head stay as stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sol_core.errors import ModelLoadError
from sol_core.files.staging import STAMPS_NAME, known_sha256, make_once, storing
from sol_core.progress import Progress

KIND = "Q4_0"
_LAYER = "blk."  # how names of layers' tensors begin
_FILE_TYPE = "general.file_type"


def ensure_q4_0(source: Path, data_dir: Path, on_progress: Progress) -> Path:
    """Return the copy's path in the data directory's cache, writing it the first time."""
    folder = data_dir / "cache" / "gguf"
    digest = known_sha256(source, data_dir / "cache" / STAMPS_NAME)
    target = folder / f"{source.stem}-{digest[:12]}.{KIND}.gguf"

    def make(staging: Path) -> Path:
        on_progress(f"writing {target.name}", 0.0)
        _write_q4_0(source, staging / target.name)
        return staging / target.name

    with storing(target.name, folder, ModelLoadError):
        make_once(target, target.exists, make)
    return target


def _write_q4_0(source: Path, target: Path) -> None:
    import gguf

    reader = gguf.GGUFReader(source)
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name == gguf.Keys.General.ARCHITECTURE or name.startswith("GGUF."):
            continue  # the writer's own
        inner = field.types[-1] if len(field.types) > 1 else None
        value = gguf.LlamaFileType.MOSTLY_Q4_0 if name == _FILE_TYPE else field.contents()
        writer.add_key_value(name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        data, kind = _tensor_in_q4_0(tensor)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensor_in_q4_0(tensor: Any) -> tuple[Any, Any]:
    """A tensor's bytes and kind; another matrix than a layer's is as it was."""
    import gguf

    kind = gguf.GGMLQuantizationType.Q4_0
    is_whole = tensor.shape[0] % gguf.GGML_QUANT_SIZES[kind][0] == 0
    if not tensor.name.startswith(_LAYER) or len(tensor.shape) != 2 or not is_whole:
        return tensor.data, tensor.tensor_type
    return gguf.quantize(gguf.dequantize(tensor.data, tensor.tensor_type), kind), kind
