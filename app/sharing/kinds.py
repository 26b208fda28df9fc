"""The table of what can be exported and imported, and the envelope around every JSON document.

A document is an object with "format" and "version" beside its content. It comes from anywhere
and is never trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from app.host.damage import naming_damage
from app.host.errors import DocumentError
from app.sharing.comparison import COMPARISON
from app.sharing.kind import Kind, ModelCalls, Source
from app.sharing.runs.run_kinds import INSPECTION_RUN, RUN
from sol_core.files.places import whole_characters, why_not_parsed
from storage import NotFoundError, Store

FORMS = ("html", "json", "csv")
MAX_DOCUMENT_BYTES = 128 * 1024**2
_ADVICE = (
    'Choose a JSON file that SOL Explorer exported (its "format" begins with "sol-explorer-").'
)

KINDS: dict[str, Kind] = {
    "run": RUN,
    "inspection": INSPECTION_RUN,
    "comparison": COMPARISON,
}
Document = dict[str, Any]


def kind_of(store: Store, thing_id: str) -> str:
    """The kind of the thing with this id.

    Raises: NotFoundError.
    """
    for name, kind in KINDS.items():
        if kind.owns(store, thing_id):
            return name
    raise NotFoundError(f"There is no run {thing_id!r}. It may have been deleted.")


def runs_of(thing_id: str) -> tuple[str, ...]:
    """Ids of what may be runs in a thing's id: RUN or RUN,RUN."""
    return tuple(thing_id.split(","))


def thing_in_link(text: str) -> str:
    """The id in a link to a thing, or the text itself where it is no link.

    A link that opens several things means the one of its tab, else the first of ``KINDS``.
    """
    asked = parse_qs(urlsplit(text).query)
    tab = asked.get("tab", [""])[0]
    addresses = [kind.address for kind in KINDS.values() if kind.address[0] in asked]
    if not addresses:
        return text
    name, _ = next((address for address in addresses if address[1] == tab), addresses[0])
    return asked[name][0]


@dataclass(frozen=True, slots=True)
class Export:
    """A file to write or download: UTF-8 text of a media type."""

    name: str
    media_type: str
    text: str


_MEDIA_TYPES = {"html": "text/html", "json": "application/json", "csv": "text/csv"}


def export(
    store: Store, kind: str, thing_id: str, form: str, model: ModelCalls | None = None
) -> Export:
    """One thing in one form.

    Args:
        model: what a loaded model can add; None where there is none.
    Raises: DocumentError for a kind or form that there is not; NotFoundError; AppError for a
        thing that is not finished, or damaged.
    """
    chosen = KINDS.get(kind)
    forms = (
        FORMS if chosen is None else [text_form for text_form in FORMS if text_form in chosen.texts]
    )
    if chosen is None or form not in forms:
        raise DocumentError(
            f"a {kind} cannot be exported as {form}: kinds are {', '.join(KINDS)}, "
            f"forms are {', '.join(forms)}"
        )
    source = Source(store, model)
    with naming_damage(f"This {kind}"):
        text = chosen.texts[form](source, thing_id)
        if form != "json":
            # CSV and HTML have no escape for half characters: they become U+FFFD.
            text = whole_characters(text)
        name = _file_stem(kind, chosen.title(store, thing_id))
    return Export(f"{name}.{form}", _MEDIA_TYPES[form], text)


def import_document(store: Store, owner: str, data: bytes) -> tuple[str, str]:
    """Save what a JSON file holds; returns its kind and the id that it got.

    Of a list, as ``generate --prompts --json`` prints one, everything is saved and the first told.
    Raises: DocumentError saying what is wrong with the file.
    """
    return import_documents(store, owner, data)[0]


def import_documents(store: Store, owner: str, data: bytes) -> list[tuple[str, str]]:
    """Save everything that a JSON file holds, one document or a list; kinds and new ids.

    Raises: DocumentError saying what is wrong, before anything is saved where a document is of no
        kind that is read.
    """
    documents = _parsed(data)
    readers = [_reader(document) for document in documents]
    return [
        (name, read(store, owner, document))
        for (name, read), document in zip(readers, documents, strict=True)
    ]


def _reader(document: Document) -> tuple[str, Callable[[Store, str, Document], str]]:
    """The document's kind, and what saves one. Raises: DocumentError."""
    given = document.get("format")
    for name, kind in KINDS.items():
        if kind.read is not None and kind.format == given:
            _check_version(document, kind)
            return name, kind.read
    shown = repr(given)[:60]
    known = ", ".join(kind.format for kind in KINDS.values() if kind.read)
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


def _parsed(data: bytes) -> list[Document]:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(
            f"the file has more than {MAX_DOCUMENT_BYTES / 1024**2:.0f} MB, the most that is read"
        )
    try:
        parsed = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"the file is not JSON: {why_not_parsed(error)}. {_ADVICE}") from error
    documents = parsed if isinstance(parsed, list) else [parsed]
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise DocumentError(f"the file holds no JSON object. {_ADVICE}")
    return documents


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _file_stem(kind: str, title: str) -> str:
    words = "".join(char if char.isascii() and char.isalnum() else "-" for char in title)
    stem = "-".join(part for part in words.split("-") if part)[:50].rstrip("-").lower()
    return f"{kind}-{stem}" if stem else kind
