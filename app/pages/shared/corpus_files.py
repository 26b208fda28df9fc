"""Text files that a visitor gives the server, kept under ``corpora/uploads`` by safe names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from app.host.errors import AppError

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
MAX_UPLOAD_BYTES = 256 * 1024**2
MAX_NAME_LENGTH = 80
MAX_NAME_BYTES = 140  # a file system's name has 255 bytes, an encrypted folder's 143
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
        """The file of this name, never outside the folder. Raises: CorpusFileError without one."""
        if name not in {entry["name"] for entry in self.list()}:
            raise CorpusFileError(
                f"There is no uploaded file {name!r}. Choose one of the list, or upload it again."
            )
        return self.folder / name

    def delete(self, name: str) -> None:
        """Raises: CorpusFileError when there is no such file."""
        self.path(name).unlink(missing_ok=True)

    def finish(self, part: Path, name: str) -> str:
        """Give a whole upload its name, with a number when that is taken; return the name."""
        wanted = Path(safe_name(name))
        self.folder.mkdir(parents=True, exist_ok=True)
        final, number = self.folder / wanted, 1
        while final.exists():
            number += 1
            final = self.folder / f"{wanted.stem}-{number}{wanted.suffix}"
        part.replace(final)
        return final.name


def safe_name(name: str) -> str:
    """A file name without folders or special characters. Raises: CorpusFileError for its suffix."""
    last = re.split(r"[\\/]", name)[-1]
    stem, dot, suffix = last.rpartition(".")
    suffix = (dot + suffix).lower()
    if suffix not in SUFFIXES:
        raise CorpusFileError(
            f"A corpus is a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, got {last[:80]!r}."
        )
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[: MAX_NAME_LENGTH - len(suffix)]
    stem = stem.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") or "corpus"
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
