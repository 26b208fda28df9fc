"""The table of what can be exported and imported, and the envelope around every JSON document.

A document is an object with "format" and "version" beside its content. It comes from anywhere
and is never trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from app.errors import DocumentError
from app.sharing.run_csv import csv_of_run
from app.sharing.run_document import (
    RUN_FORMAT,
    RUN_VERSION,
    document_of_run,
    ended_run,
    import_run,
)
from app.sharing.run_page import page_of_run
from storage import Store

__all__ = ["FORMS", "KINDS", "MAX_DOCUMENT_BYTES", "Export", "Kind", "export", "import_document"]

FORMS = ("html", "json", "csv")
MAX_DOCUMENT_BYTES = 128 * 1024**2
_ADVICE = (
    'Choose a JSON file that SOL Explorer exported (its "format" begins with "sol-explorer-").'
)

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that can be shared.

    Attributes:
        format, version: in its JSON documents; the version rises with every change that an older
            release would misread.
        title: what to call the thing with this id.
        write: its document, without the envelope.
        texts: its further forms, such as "csv", as text.
        read: check a document, save it for an owner, return the new id.
    """

    format: str
    version: int
    title: Callable[[Store, str], str]
    write: Callable[[Store, str], Document]
    texts: Mapping[str, Callable[[Store, str], str]]
    read: Callable[[Store, str, Document], str]


KINDS: dict[str, Kind] = {
    "run": Kind(
        format=RUN_FORMAT,
        version=RUN_VERSION,
        title=lambda store, run_id: store.runs.get(run_id).title,
        write=document_of_run,
        texts={
            "csv": lambda store, run_id: csv_of_run(ended_run(store, run_id)[1]),
            "html": lambda store, run_id: page_of_run(*ended_run(store, run_id)),
        },
        read=import_run,
    )
}


@dataclass(frozen=True, slots=True)
class Export:
    """A file to write or download: UTF-8 text of a media type."""

    name: str
    media_type: str
    text: str


_MEDIA_TYPES = {"html": "text/html", "json": "application/json", "csv": "text/csv"}


def export(store: Store, kind: str, thing_id: str, form: str) -> Export:
    """One thing in one form.

    Raises: DocumentError for a kind or form that there is not; NotFoundError; AppError for a
        thing that is not finished.
    """
    if kind not in KINDS or form not in FORMS:
        raise DocumentError(
            f"a {kind} cannot be exported as {form}: kinds are {', '.join(KINDS)}, "
            f"forms are {', '.join(FORMS)}"
        )
    chosen = KINDS[kind]
    if form == "json":
        head = {"format": chosen.format, "version": chosen.version}
        # ASCII only: text that no UTF-8 can hold (half characters) survives as well.
        text = json.dumps(head | chosen.write(store, thing_id), allow_nan=False) + "\n"
    else:
        # CSV and HTML have no escape for half characters: they become U+FFFD.
        text = chosen.texts[form](store, thing_id)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    name = _file_stem(kind, chosen.title(store, thing_id))
    return Export(f"{name}.{form}", _MEDIA_TYPES[form], text)


def import_document(store: Store, owner: str, data: bytes) -> tuple[str, str]:
    """Save what a JSON file holds; returns its kind and the id that it got.

    Raises: DocumentError saying what is wrong with the file.
    """
    document = _parsed(data)
    found = document.get("format")
    for name, kind in KINDS.items():
        if kind.format == found:
            _check_version(document, kind)
            return name, kind.read(store, owner, document)
    shown = repr(found)[:60]
    known = ", ".join(kind.format for kind in KINDS.values())
    raise DocumentError(f"the file's format is {shown}; this release reads {known}. {_ADVICE}")


def _check_version(document: Document, kind: Kind) -> None:
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise DocumentError(f"the file's version must be a whole number, got {repr(version)[:40]}")
    if version > kind.version:
        raise DocumentError(
            f"the file has version {version} of {kind.format}, this release reads up to "
            f"{kind.version}: update SOL Explorer"
        )


def _parsed(data: bytes) -> Document:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(
            f"the file has more than {MAX_DOCUMENT_BYTES / 1024**2:.0f} MB, the most that is read"
        )
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"the file is not JSON: {str(error)[:120]}. {_ADVICE}") from error
    if not isinstance(document, dict):
        raise DocumentError(f"the file holds no JSON object. {_ADVICE}")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _file_stem(kind: str, title: str) -> str:
    words = "".join(char if char.isascii() and char.isalnum() else "-" for char in title)
    stem = "-".join(part for part in words.split("-") if part)[:50].rstrip("-").lower()
    return f"{kind}-{stem}" if stem else kind
