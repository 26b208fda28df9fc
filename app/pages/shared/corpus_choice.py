"""The corpus picker: what a visitor may choose, and the source that the engine is given.

Files that a visitor gives are kept under ``corpora/uploads`` by safe names. On a shared server
nobody may name a path of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.host.errors import AppError
from app.host.limits import UNLIMITED
from app.pages.shared.job_calls import check_jobs_allowed
from app.pages.shared.uploads import UploadKind
from app.web.calls import Request, by_name, field, owner_of
from app.web.services import Services
from sol_core.corpus.documents import BUILTIN, looks_like_hub_id
from sol_core.errors import ConfigError

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
MAX_UPLOAD_BYTES = 256 * 1024**2
MAX_NAME_LENGTH = 80
MAX_NAME_BYTES = 140  # a file system's name has 255 bytes, an encrypted folder's 143
_PORTS = {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
_RESERVED = {"con", "prn", "aux", "nul"} | _PORTS  # names that Windows keeps for itself


@dataclass(frozen=True, slots=True)
class CorpusFiles:
    """The files of one visitor, or of everyone on a server that is not shared."""

    folder: Path

    def list(self) -> list[dict[str, int | str]]:
        """Name and size in bytes of every file, by name."""
        if not self.folder.is_dir():
            return []
        files = [
            entry
            for entry in self.folder.iterdir()
            if entry.suffix in SUFFIXES and not entry.name.startswith(".")
            if entry.is_file() and not entry.is_symlink()
        ]
        return [
            {"name": entry.name, "bytes": entry.stat().st_size}
            for entry in sorted(files, key=lambda entry: entry.name.lower())
        ]

    def path(self, name: str) -> Path:
        """The file of this name, never outside the folder. Raises: AppError without one."""
        if name not in {entry["name"] for entry in self.list()}:
            raise AppError(
                f"There is no uploaded file {name!r}. Choose one of the list, or upload it again."
            )
        return self.folder / name

    def delete(self, name: str) -> None:
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


def corpus_files(services: Services, owner: str) -> CorpusFiles:
    folder = _uploads_folder(services)
    return CorpusFiles(folder / owner if services.is_shared else folder)


def corpus_source(services: Services, owner: str, choice: dict[str, Any]) -> str:
    """The engine's corpus name for a choice {"kind": …, "name": …}."""
    kind, name = choice.get("kind"), choice.get("name", "")
    if not isinstance(name, str):
        raise ConfigError(f"the corpus must be named by text, got {name!r}")
    if kind == "builtin":
        return BUILTIN
    if kind == "upload":
        return str(corpus_files(services, owner).path(name))
    if kind == "hub":
        if not services.limits.hub:
            raise ConfigError(
                "This server reads no data sets from the Hub: choose the built-in text or upload a "
                "file. Its owner can allow it with SOL_LIMITS=hub=1."
            )
        if not looks_like_hub_id(name.strip()):
            raise ConfigError(
                "A Hub data set is owner/name or owner/name:config:part:column, got "
                f"{name[:120]!r}."
            )
        return name.strip()
    if kind == "path" and not services.is_shared:
        return _existing(name.strip())
    raise ConfigError("The corpus is the built-in text, an uploaded file or a Hub data set.")


def corpus_choice(services: Services, owner: str, source: str) -> dict[str, str]:
    """The choice behind a source, for cloning a job's settings into the form."""
    if source == BUILTIN:
        return {"kind": "builtin", "name": ""}
    path = Path(source)
    if path.parent == corpus_files(services, owner).folder:
        return {"kind": "upload", "name": path.name}
    if looks_like_hub_id(source) and not path.exists():
        return {"kind": "hub", "name": source}
    return {"kind": "path", "name": source}


def list_corpora(services: Services, request: Request) -> dict[str, Any]:
    return {"files": corpus_files(services, owner_of(request)).list()}


def delete_corpus(services: Services, request: Request) -> dict[str, Any]:
    corpus_files(services, owner_of(request)).delete(field(request, "name", str))
    return list_corpora(services, request)


def _uploads_folder(services: Services) -> Path:
    return services.data_dir.corpora / "uploads"


def _check_upload(services: Services, owner: str, name: str, size: int) -> None:
    check_jobs_allowed(services)
    safe_name(name)
    most = services.limits.kept_mb * 1024**2
    if most == UNLIMITED:
        return
    files = [path for path in _uploads_folder(services).rglob("*") if path.is_file()]
    if sum(path.stat().st_size for path in files) + size > most:
        raise AppError(
            f"The uploaded texts on this server fill the {services.limits.kept_mb:,} MB that they "
            "may take. Delete some of yours, or choose the built-in text."
        )


def _existing(name: str) -> str:
    path = Path(name).expanduser()
    if not name or not path.is_absolute() or not path.exists():
        raise ConfigError(f"There is no file or folder {name[:200]!r}. Give its full path.")
    if not path.is_file() and not path.is_dir():
        raise ConfigError(
            f"{name[:200]!r} is a pipe, a device or a socket. Write the text to a file and give "
            "its full path."
        )
    return str(path)


def safe_name(name: str) -> str:
    """A file name without folders or special characters. Raises: AppError for its suffix."""
    last = re.split(r"[\\/]", name)[-1]
    stem, dot, suffix = last.rpartition(".")
    suffix = (dot + suffix).lower()
    if suffix not in SUFFIXES:
        raise AppError(
            f"A corpus is a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, got {last[:80]!r}."
        )
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[: MAX_NAME_LENGTH - len(suffix)]
    stem = stem.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") or "corpus"
    if stem.lower() in _RESERVED:
        stem += "_"
    return stem + suffix


CORPUS_HANDLERS = by_name(list_corpora, delete_corpus)
CORPUS_UPLOAD = UploadKind(
    "A corpus file",
    "Give the path of a larger one instead, or cut it.",
    lambda services: min(MAX_UPLOAD_BYTES, services.limits.upload_mb * 1024**2),
    _check_upload,
    lambda services, owner, name, part: {"name": corpus_files(services, owner).finish(part, name)},
)
