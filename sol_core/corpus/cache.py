"""A corpus on disk: one Parquet file a side of the split, and a manifest.

Written once, in one pass, and published in one rename; read back a few row groups at a
time, so neither takes more memory than some tens of megabytes whatever the corpus's size.
``datasets.load_dataset("parquet", data_files=...)`` opens the same files.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from sol_core.corpus.documents import SPLITS, Document, Split
from sol_core.errors import CorpusError
from sol_core.files.staging import exclusive, has_leftovers, publish, staged_folder
from sol_core.progress import Progress

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
GROUP_CHARACTERS = 4_000_000
GROUP_DOCUMENTS = 10_000
SHUFFLED_GROUPS = 4  # mixed with one another when reading in random order
_SCHEMA = pa.schema([("text", pa.string()), ("origin", pa.string())])


@dataclass(frozen=True, slots=True)
class CorpusManifest:
    """Contents of a cached corpus."""

    signature: str  # of what it was made from; another one means making it again
    fingerprint: str  # hex SHA-256 over the documents and their sides
    num_documents: dict[str, int]  # per split
    notices: tuple[str, ...]  # guesses the user should know about, such as an encoding


def ensure_cached(
    folder: Path,
    signature: str,
    documents: Callable[[], Iterator[Document]],
    notices: list[str],
    on_progress: Progress,
) -> CorpusManifest:
    """Return the manifest of the corpus in ``folder``, written first if need be."""
    cached = _read_manifest(folder, signature)
    if cached and not has_leftovers(folder):
        return cached
    with exclusive(folder, lambda: on_progress("Waiting for another process", 0.0)):
        if cached := _read_manifest(folder, signature):
            return cached
        with staged_folder(folder) as staging:
            made = staging / "corpus"
            made.mkdir()
            fingerprint, counts = _write(made, documents())
            manifest = CorpusManifest(signature, fingerprint, counts, tuple(notices))
            record = {"schema": SCHEMA_VERSION, **asdict(manifest)}
            (made / MANIFEST_NAME).write_text(json.dumps(record, indent=2), encoding="utf-8")
            publish(made, folder, staging)
    return manifest


def read_split(folder: Path, split: Split, seed: int | None) -> Iterator[str]:
    """Yield the texts of one side, in the source's order or shuffled by ``seed``.

    Shuffling takes the row groups in random order and mixes the documents of four at a
    time: exact for a corpus of up to four groups (16 MB of text), close to it beyond.
    """
    with pq.ParquetFile(folder / f"{split}.parquet", pre_buffer=False) as file:
        groups = list(range(file.num_row_groups))
        if seed is None:
            for group in groups:
                yield from _texts(file, [group])
            return
        order = random.Random(seed)
        order.shuffle(groups)
        for first in range(0, len(groups), SHUFFLED_GROUPS):
            texts = _texts(file, groups[first : first + SHUFFLED_GROUPS])
            order.shuffle(texts)
            yield from texts


def _texts(file: Any, groups: list[int]) -> list[str]:
    texts: list[str] = file.read_row_groups(groups, columns=["text"]).column(0).to_pylist()
    return texts


def _read_manifest(folder: Path, signature: str) -> CorpusManifest | None:
    """The manifest if the folder holds a corpus with this signature; None if it must be made."""
    try:
        record = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        if record.pop("schema") != SCHEMA_VERSION or record["signature"] != signature:
            return None
        return CorpusManifest(**{**record, "notices": tuple(record["notices"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(folder: Path, documents: Iterator[Document]) -> tuple[str, dict[str, int]]:
    fingerprint = hashlib.sha256()
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(_SplitWriter(folder / f"{split}.parquet"))
            for split in SPLITS
        }
        for document in documents:
            fingerprint.update(f"{document.split}\0{document.text}\0".encode())
            counts[document.split] += 1
            writers[document.split].add(document)
    if not any(counts.values()):
        raise CorpusError("it holds no text, only white space")
    return fingerprint.hexdigest(), counts


class _SplitWriter:
    """Writes documents to one Parquet file, a row group of about 4 MB at a time."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._rows: list[tuple[str, str]] = []
        self._characters = 0

    def __enter__(self) -> _SplitWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        self._flush()
        self._file.close()

    def add(self, document: Document) -> None:
        self._rows.append((document.text, document.origin))
        self._characters += len(document.text)
        if self._characters >= GROUP_CHARACTERS or len(self._rows) >= GROUP_DOCUMENTS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            texts, origins = zip(*self._rows, strict=True)
            table = pa.table({"text": list(texts), "origin": list(origins)}, schema=_SCHEMA)
            self._file.write_table(table)
            self._rows, self._characters = [], 0
