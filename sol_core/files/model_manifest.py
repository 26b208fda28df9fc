"""The manifest of a converted model: what it was made from, and how to tell it is whole.

``manifest.json`` is written last, before the folder gets its name. ``check_model`` is the
fast look at every start (sizes and the weights' header, under a millisecond);
``verify_model`` reads every byte.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sol_core.errors import ModelLoadError
from sol_core.files.staging import first_damaged, sha256_of

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
WEIGHTS_NAME = "model.safetensors"
REQUIRED_FILES = ("config.json", WEIGHTS_NAME, "tokenizer.json")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and hex SHA-256 of one file."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """Contents of a converted model folder."""

    name: str  # the model's name in this program
    source: str  # the file it was made from, and that file's ``source_sha256``
    source_sha256: str
    files: dict[str, FileRecord]  # every file of the folder but the manifest


def make_manifest(folder: Path, name: str, source: str, source_sha256: str) -> ModelManifest:
    """Hash every file of a freshly converted folder."""
    files = {
        path.name: FileRecord(path.stat().st_size, sha256_of(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_NAME
    }
    if missing := [name for name in REQUIRED_FILES if name not in files]:
        raise ModelLoadError(f"the conversion of {source} wrote no {', '.join(missing)}")
    return ModelManifest(name, source, source_sha256, files)


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    record = {"schema": SCHEMA_VERSION, **asdict(manifest)}
    (folder / MANIFEST_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> ModelManifest:
    """Raises ModelLoadError when it is missing, damaged, or from another version."""
    path = folder / MANIFEST_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} is missing or damaged ({error})") from error
    return _parse(record, path)


def check_model(folder: Path) -> ModelManifest:
    """Fast check: every file has its size and the weights' header is readable."""
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise ModelLoadError(f"{path} is missing")
        if size != expected.num_bytes:
            raise ModelLoadError(
                f"{path} is damaged: it has {size} bytes, expected {expected.num_bytes}"
            )
    _check_header(folder / WEIGHTS_NAME)
    return manifest


def verify_model(folder: Path, stamps: Path | None = None) -> ModelManifest:
    """Full check: every file has its SHA-256 (reads the whole folder: 0.3 to 1 s)."""
    manifest = check_model(folder)
    refuse_damaged({folder / name: file.sha256 for name, file in manifest.files.items()}, stamps)
    return manifest


def refuse_damaged(expected: Mapping[Path, str], stamps: Path | None) -> None:
    """Raise ModelLoadError naming the first file with another SHA-256 than expected."""
    try:
        damaged = first_damaged(expected, stamps)
    except OSError as error:
        raise ModelLoadError(f"{error.filename} cannot be read: {error.strerror}") from error
    if damaged is not None:
        path, actual = damaged
        raise ModelLoadError(
            f"{path} is damaged: its SHA-256 is {actual}, expected {expected[path]}"
        )


def _parse(record: Any, path: Path) -> ModelManifest:
    if not isinstance(record, dict) or record.get("schema") != SCHEMA_VERSION:
        raise ModelLoadError(f"{path} is not a manifest of version {SCHEMA_VERSION}")
    try:
        files = {name: FileRecord(**entry) for name, entry in record["files"].items()}
        return ModelManifest(record["name"], record["source"], record["source_sha256"], files)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"{path} lacks entries or has unknown ones ({error})") from error


def _check_header(path: Path) -> None:
    """A safetensors file starts with the length of its JSON header (8 bytes, little-endian)."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else None
        if length is None or length > path.stat().st_size - 8:
            raise ModelLoadError(f"{path} is damaged: it does not start like a safetensors file")
        try:
            json.loads(file.read(length))
        except ValueError as error:
            raise ModelLoadError(f"{path} is damaged: unreadable header ({error})") from error
