"""The corpus picker: what a visitor may choose, and the source that the engine is given.

On a shared server nobody may name a path of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.host.limits import UNLIMITED
from app.pages.shared.corpus_files import MAX_UPLOAD_BYTES, CorpusFileError, CorpusFiles, safe_name
from app.pages.shared.job_calls import check_jobs_allowed
from app.pages.shared.uploads import UploadKind
from app.web.calls import Request, by_name, field, owner_of
from app.web.services import Services
from sol_core.corpus.documents import BUILTIN, looks_like_hub_id
from sol_core.errors import ConfigError


def corpus_files(services: Services, owner: str) -> CorpusFiles:
    """The uploads that this visitor sees."""
    folder = _uploads_folder(services)
    return CorpusFiles(folder / owner if services.is_shared else folder)


def corpus_source(services: Services, owner: str, choice: dict[str, Any]) -> str:
    """The engine's corpus name for a choice {"kind": …, "name": …}. Raises: ConfigError,
    CorpusFileError."""
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
    """The uploaded files."""
    return {"files": corpus_files(services, owner_of(request)).list()}


def delete_corpus(services: Services, request: Request) -> dict[str, Any]:
    """Delete an uploaded file for good."""
    corpus_files(services, owner_of(request)).delete(field(request, "name", str))
    return list_corpora(services, request)


def _uploads_folder(services: Services) -> Path:
    return services.data_dir.corpora / "uploads"


def _check_total(services: Services, size: int) -> None:
    """Raises: CorpusFileError when all visitors' files together would be too large."""
    most = services.limits.kept_mb * 1024**2
    if most == UNLIMITED:
        return
    files = [path for path in _uploads_folder(services).rglob("*") if path.is_file()]
    if sum(path.stat().st_size for path in files) + size > most:
        raise CorpusFileError(
            f"The uploaded texts on this server fill the {services.limits.kept_mb:,} MB that they "
            "may take. Delete some of yours, or choose the built-in text."
        )


def _check_upload(services: Services, owner: str, name: str, size: int) -> None:
    check_jobs_allowed(services)
    safe_name(name)
    _check_total(services, size)


def _take_upload(services: Services, owner: str, name: str, part: Path) -> dict[str, Any]:
    return {"name": corpus_files(services, owner).finish(part, name)}


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


CORPUS_HANDLERS = by_name(list_corpora, delete_corpus)
CORPUS_UPLOAD = UploadKind(
    "A corpus file",
    "Give the path of a larger one instead, or cut it.",
    lambda services: min(MAX_UPLOAD_BYTES, services.limits.upload_mb * 1024**2),
    _check_upload,
    _take_upload,
)
