"""A GGUF file's header: what it says of its model, and where its tensors lie.

Read without the vocabulary, so that a file is judged in a fraction of a second. The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sol_core.errors import ModelLoadError, UnsupportedModelError

MAGIC, VERSIONS = b"GGUF", (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_NUMBERS |= {12: "d"}
_STRING, _ARRAY = 8, 9
_COPY = "copy it again from where it came"


class GgufTensor(NamedTuple):
    """A tensor's place in the file.

    Attributes:
        kind: of its numbers or blocks, as GGML names it: "F16", "Q4_0" …
        shape: as torch has it, the innermost axis last.
        offset, num_bytes: from the beginning of the file.
    """

    kind: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Contents of a file before its weights.

    Attributes:
        metadata: by GGUF's keys; of an array of texts only its length.
        tensors: by GGUF's names.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture"))


def read_gguf_header(path: Path) -> GgufHeader:
    """Read a file's header, and see that the file is as long as it says.

    Raises: ModelLoadError for a file that is no GGUF file, cannot be read, or is damaged;
        UnsupportedModelError for tensors of an unknown kind.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            if start != MAGIC:
                raise ModelLoadError(
                    f"{path} is not a GGUF file: it begins with {start!r}, not {MAGIC!r}. Give a "
                    ".gguf file, a folder with config.json and safetensors, or a Hub id"
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _header(path, _Cursor(content))
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
    except (struct.error, KeyError, ValueError, TypeError) as error:
        if isinstance(error, UnsupportedModelError):
            raise
        raise ModelLoadError(
            f"{path} is damaged or truncated ({type(error).__name__} in its header): {_COPY}"
        ) from error


class _Cursor:
    """Reads one value after another."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.place = len(MAGIC)

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        form = f"<{count}{code}"
        values = struct.unpack_from(form, self.content, self.place)
        self.place += struct.calcsize(form)
        return values

    def text(self) -> str:
        return self._skip_text().decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.numbers(_NUMBERS[kind])[0]
        (inner,), (count,) = self.numbers("I"), self.numbers("Q")
        if inner != _STRING:
            return list(self.numbers(_NUMBERS[inner], count))
        for _ in range(count):
            self._skip_text()
        return count

    def _skip_text(self) -> bytes:
        (length,) = self.numbers("Q")
        begin, self.place = self.place, self.place + length
        if self.place > len(self.content):
            raise ValueError("a text is longer than the file")
        return self.content[begin : self.place]


def _header(path: Path, cursor: _Cursor) -> GgufHeader:
    (version,) = cursor.numbers("I")
    if version not in VERSIONS:
        raise UnsupportedModelError(
            f"{path} is of GGUF's version {version}, or of a big-endian machine; read are versions "
            f"{' and '.join(map(str, VERSIONS))}: convert the model anew with llama.cpp"
        )
    num_tensors, num_values = cursor.numbers("Q", 2)
    metadata = {}
    for _ in range(num_values):
        name = cursor.text()
        metadata[name] = cursor.value(*cursor.numbers("I"))
    named = [_tensor(path, cursor) for _ in range(num_tensors)]
    step = metadata.get("general.alignment", 32)
    begin = -(-cursor.place // step) * step
    tensors = {name: tensor._replace(offset=tensor.offset + begin) for name, tensor in named}
    end = max((tensor.offset + tensor.num_bytes for tensor in tensors.values()), default=begin)
    if end > len(cursor.content):
        raise ModelLoadError(
            f"{path} is truncated: it has {len(cursor.content)} bytes, its weights end at {end}: "
            f"{_COPY}"
        )
    return GgufHeader(path, metadata, tensors)


def _tensor(path: Path, cursor: _Cursor) -> tuple[str, GgufTensor]:
    """Name and place, the offset from where the weights begin."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    name = cursor.text()
    (axes,) = cursor.numbers("I")
    shape = cursor.numbers("Q", axes)[::-1]
    (number,), (offset,) = cursor.numbers("I"), cursor.numbers("Q")
    try:
        kind = GGMLQuantizationType(number)
    except ValueError as error:
        raise UnsupportedModelError(
            f"{path} has {name} in blocks of kind {number}, which are not known here: update the "
            "package gguf, or take a file of Q8_0, Q4_0 or F16"
        ) from error
    size, num_bytes = GGML_QUANT_SIZES[kind]
    if not shape or shape[-1] % size:
        raise ValueError(f"{name} has no whole blocks")
    return name, GgufTensor(kind.name, shape, offset, math.prod(shape) // size * num_bytes)
