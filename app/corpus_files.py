"""Text files that a visitor gives the server, kept under ``corpora/uploads``.

A file arrives in pieces, each with its place; it appears under its name once the last piece is
there, so that a broken connection leaves no half corpus. Names are made safe, never trusted.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from app.errors import AppError

__all__ = ["MAX_UPLOAD_BYTES", "SUFFIXES", "CorpusFileError", "CorpusFiles", "safe_name"]

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
MAX_UPLOAD_BYTES = 256 * 1024**2
MAX_NAME_LENGTH = 80
_KEEP_FREE_BYTES = 500 * 1024**2
_KEEP_PARTIAL_S = 24 * 3600
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_PORTS = {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
_RESERVED = {"con", "prn", "aux", "nul"} | _PORTS  # names that Windows keeps for itself


class CorpusFileError(AppError, ValueError):
    """A file that cannot become a corpus."""


@dataclass(frozen=True, slots=True)
class CorpusFiles:
    """The files of one visitor, or of everyone on a server that is not shared."""

    folder: Path

    def list(self) -> list[dict[str, int | str]]:
        """Name and size in bytes of every file, by name."""
        if not self.folder.is_dir():
            return []
        files = [entry for entry in self.folder.iterdir() if _is_corpus(entry)]
        return [
            {"name": entry.name, "bytes": entry.stat().st_size}
            for entry in sorted(files, key=lambda entry: entry.name.lower())
        ]

    def path(self, name: str) -> Path:
        """The file of this name.

        Raises: CorpusFileError when there is none; nothing outside the folder is ever named.
        """
        if name not in {entry["name"] for entry in self.list()}:
            raise CorpusFileError(
                f"There is no uploaded file {name!r}. Choose one of the list, or upload it again."
            )
        return self.folder / name

    def delete(self, name: str) -> None:
        """Raises: CorpusFileError when there is no such file."""
        self.path(name).unlink(missing_ok=True)

    def begin(self, name: str, size: int) -> str:
        """Make room for a file of ``size`` bytes; the answer names the upload.

        Raises: CorpusFileError when the kind or the size is not allowed, or the disk is full.
        """
        safe_name(name)
        if not 0 < size <= MAX_UPLOAD_BYTES:
            raise CorpusFileError(
                f"A corpus file may have 1 byte to {MAX_UPLOAD_BYTES // 1024**2} MB, this one has "
                f"{size / 1024**2:,.1f} MB. Give the path of a larger one instead, or cut it."
            )
        self._drop_old_parts()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < size + _KEEP_FREE_BYTES:
                raise CorpusFileError("The disk of the data directory is full: free some space.")
            upload_id = secrets.token_hex(16)
            self._part(upload_id).touch()
        except OSError as error:
            raise CorpusFileError(f"The file cannot be stored: {error.strerror}.") from error
        return upload_id

    def append(self, upload_id: str, offset: int, data: bytes, size: int) -> int:
        """Add a piece; the answer is how much is there.

        Raises: CorpusFileError for an unknown upload, a piece out of place or too much data.
        """
        part = self._part(upload_id)
        try:
            have = part.stat().st_size
            if offset != have or have + len(data) > min(size, MAX_UPLOAD_BYTES):
                raise CorpusFileError(f"The upload has {have} bytes; a piece at {offset} does not "
                                      "fit. Upload the file again.")  # fmt: skip
            with part.open("ab") as file:
                file.write(data)
        except FileNotFoundError as error:
            raise CorpusFileError("This upload is gone. Upload the file again.") from error
        except OSError as error:
            raise CorpusFileError(f"The file cannot be stored: {error.strerror}.") from error
        return have + len(data)

    def finish(self, upload_id: str, name: str) -> str:
        """Give the file its name, with a number when that is taken; the answer is the name."""
        wanted = Path(safe_name(name))
        final, number = self.folder / wanted, 1
        while final.exists():
            number += 1
            final = self.folder / f"{wanted.stem}-{number}{wanted.suffix}"
        self._part(upload_id).replace(final)
        return final.name

    def _part(self, upload_id: str) -> Path:
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise CorpusFileError("upload_id must be 32 hexadecimal digits. Reload the page.")
        return self.folder / f".part-{upload_id}"

    def _drop_old_parts(self) -> None:
        for part in self.folder.glob(".part-*"):
            if time.time() - part.stat().st_mtime > _KEEP_PARTIAL_S:
                part.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """A file name without folders, control or special characters, in lower-case suffix.

    Raises: CorpusFileError when the suffix is not one that can be read.
    """
    last = re.split(r"[\\/]", name)[-1]
    stem, dot, suffix = last.rpartition(".")
    suffix = (dot + suffix).lower()
    if suffix not in SUFFIXES:
        raise CorpusFileError(
            f"A corpus is a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, got {last[:80]!r}."
        )
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[: MAX_NAME_LENGTH - len(suffix)] or "corpus"
    if stem.lower() in _RESERVED:
        stem += "_"
    return stem + suffix


def _is_corpus(entry: Path) -> bool:
    return (
        entry.suffix in SUFFIXES
        and not entry.name.startswith(".")
        and entry.is_file()
        and not entry.is_symlink()
    )
