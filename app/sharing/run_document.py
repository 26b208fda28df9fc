"""A saved run as a JSON document, and back: everything that the database holds; and as a page.

The records inside are the engine's events, checked against its own dataclasses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from typing import Any

from app.formats import json_safe
from app.host.errors import AppError, DocumentError
from app.runs.recorded_run import KINDS
from app.runs.views import whole_view
from app.sharing.html_page import PROGRAM, html_page
from sol_core.errors import ConfigError
from sol_core.fields import Rules, from_json, kind_of
from storage import RestoredRun, RunKind, RunRecord, RunStatus, Store

MAX_TOKENS = 20_000
VERSION = 1  # of the documents; rises with every change that an older release would misread
# Fields of every kind of run in the document's part without tokens, by the record's own names.
_SHARED = ("id", "status", "title", "model", "config", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedHead:
    """Fields without tokens that every kind of run has; an import gets an ``id`` of its own."""

    id: str
    status: RunStatus
    title: str
    model: str
    created_at: str
    error: str | None


@dataclass(frozen=True, slots=True)
class SeenRun:
    """Findings about a run that only the page holds, handed over for the exported page.

    Attributes:
        full: the full model's answer, where it was shown.
        index: number of the token whose pages were left out in turn; None where none's were.
        lost: by page, how much of its probability goes without it.
        attention: by page, what a dense step gives it.
        best: the page that it needed most.
        said: the finding in a sentence.
    """

    full: str = ""
    index: int | None = None
    lost: tuple[float, ...] = ()
    attention: tuple[float, ...] = ()
    best: int | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class RunDocument:
    """One kind of run in files: as JSON, which is read again, as CSV and as an HTML page."""

    kind: RunKind
    part: str  # name of the part without tokens
    tokens: str  # name of the list of tokens
    names: Mapping[str, str]  # further fields of the part, each with the record's attribute
    head: type[Any]  # dataclass of the part
    token: type[Any]  # and of a token
    rules: Rules
    check: Callable[[Any, list[Any]], None]  # raises DocumentError for what types do not say
    schedule: Callable[[Any], str]  # the database's label, of the part
    csv: Callable[[list[dict[str, Any]]], str]  # of the tokens' records
    styles: tuple[str, ...]  # of the page besides those that every one has

    @property
    def format(self) -> str:
        return f"sol-explorer-{self.part}"

    def text(self, store: Store, run_id: str, form: str, seen: SeenRun | None = None) -> str:
        """A run as "json", "csv" or "html". Raises: as ``ended_run``."""
        record, events = ended_run(store, run_id, self.kind)
        if form == "csv":
            return self.csv(events)
        if form == "html":
            view = whole_view(record, events) | {"seen": seen and asdict(seen)}
            return html_page(view["run"]["title"], view, f"shared_{self.part}", self.styles)
        part = {name: getattr(record, name) for name in _SHARED}
        part |= {name: getattr(record, attribute) for name, attribute in self.names.items()}
        part |= {"created_at": record.created_at.isoformat()}
        whole = {"format": self.format, "version": VERSION, "program": PROGRAM}
        whole |= {self.part: part, self.tokens: events}
        # ASCII only: text that no UTF-8 can hold (half characters) survives as well.
        return json.dumps(whole, allow_nan=False) + "\n"

    def checked(self, owner: str, document: dict[str, Any]) -> RestoredRun:
        """The document's run, to be saved under a new id. Raises: DocumentError."""
        part, tokens = self.part, self.tokens
        head = self._restored(self.head, document.get(self.part), part)
        events = document.get(self.tokens)
        if isinstance(events, list) and len(events) > MAX_TOKENS:
            raise DocumentError(
                f"{tokens} holds {len(events):,} tokens; at most {MAX_TOKENS:,} are read"
            )
        if not isinstance(events, list):
            raise DocumentError(f"{tokens} must be a list, got {kind_of(events)}")
        made = [
            self._restored(self.token, event, f"{tokens}[{at}]") for at, event in enumerate(events)
        ]
        if head.status == "running":
            raise DocumentError(
                f"{part}.status must be that of a run that has ended, got 'running'"
            )
        for at, token in enumerate(made):
            if token.index != at:
                raise DocumentError(f"{tokens}[{at}].index must be {at}, got {token.index}")
        self.check(head, made)
        saved = {name: self._saved(getattr(head, name)) for name in (*_SHARED, *self.names)}
        saved = {self.names.get(name, name): value for name, value in saved.items()}
        saved |= {"id": "", "owner": owner, "kind": self.kind, "num_tokens": len(made)}
        record = RunRecord(
            **saved | {"schedule": self.schedule(head)},
            created_at=_moment(head.created_at, part),
            updated_at=datetime.now(UTC),
        )
        return record, [self._saved(token) for token in made]

    def _restored(self, kind: type[Any], value: Any, where: str) -> Any:
        try:
            return from_json(kind, value, where, self.rules)
        except ConfigError as error:
            raise DocumentError(str(error)) from error

    def _saved(self, value: Any) -> Any:
        """A checked value as the database holds it."""
        if not is_dataclass(value):
            return value
        record = value.to_dict() if hasattr(value, "to_dict") else KINDS[self.kind].record(value)
        return json_safe(record)


def ended_run(store: Store, run_id: str, kind: RunKind) -> tuple[RunRecord, list[dict[str, Any]]]:
    """A run of a kind and its tokens' records. Raises: AppError for another one; NotFoundError."""
    record = store.runs.get(run_id)
    if record.kind != kind:
        raise AppError(f"{run_id} is of the kind {record.kind}, not {kind}.")
    if record.status == "running":
        raise AppError("This run is still going on. Wait until it has ended, or stop it.")
    return record, store.runs.events(run_id)


def _moment(text: str, part: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DocumentError(
            f"{part}.created_at must be an ISO 8601 time, got {text[:40]!r}"
        ) from error
    if moment.tzinfo is None:
        raise DocumentError(f"{part}.created_at must have an offset from UTC, got {text[:40]!r}")
    return moment
