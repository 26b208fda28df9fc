"""An open lens as a document, as rows and as a page.

It is not in the database: the loaded model looks again, which is the same look, and every number is
there in full. For the same reason nothing is imported: a lens is made again from its run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.csv_cells import csv_text
from app.errors import AppError, DocumentError
from app.lens_report import LENS_VERSION, Look, lens_json
from app.run_views import whole_view
from app.sharing.html_page import html_page
from app.sharing.run_document import ended_run
from app.sharing.source import Source
from app.views import json_safe, page_lens, page_lens_row
from sol_core.actions import AXES
from storage import RunRecord, Store

__all__ = [
    "LENS_FORMAT",
    "LENS_VERSION",
    "csv_of_lens",
    "document_of_lens",
    "is_lens_id",
    "page_of_lens",
    "title_of_lens",
]

LENS_FORMAT = "sol-explorer-lens"
SHOWN_BEFORE, SHOWN_AFTER = 80, 16  # tokens around the one that is looked at
_ID = re.compile(r"([\w-]+):(\d{1,9}):(\d{0,3}):(\d{0,3})")
_COLUMNS = ("axis", "level", *AXES, "nll", "kl", "entropy", "taken", "probability")


@dataclass(frozen=True, slots=True)
class _Lens:
    """A run, and one look into it.

    Attributes:
        row: of an inspection, which schedule's; None for a generation.
        bit_width: of the joint grid; None without one.
        look: what the model found.
    """

    record: RunRecord
    events: list[dict[str, Any]]
    index: int
    row: int | None
    bit_width: int | None
    look: Look

    @property
    def policy(self) -> list[list[float | None]] | None:
        """The policy's probability of every level per axis; None for other schedules."""
        event = self.events[self.index]
        found = event.get("policy") if self.row is None else event["rows"][self.row]["policy"]
        return found or None

    def probability(self, axis: int, level: int) -> float | None:
        """What the policy gave a level, by its place."""
        policy = self.policy
        if policy is None or axis >= len(policy) or level >= len(policy[axis]):
            return None
        return policy[axis][level]


def is_lens_id(thing_id: str) -> bool:
    """Whether this is RUN:TOKEN:ROW:BITS; ROW and BITS may be empty."""
    return _ID.fullmatch(thing_id) is not None


def title_of_lens(store: Store, thing_id: str) -> str:
    """The run's title and the token's number as the page counts it. Raises: NotFoundError."""
    run_id, index, _, _ = _parts(thing_id)
    return f"token {index + 1} of {store.runs.get(run_id).title}"


def document_of_lens(source: Source, thing_id: str) -> dict[str, Any]:
    """The document, without the envelope.

    Raises: NotFoundError; AppError without a model, or while the run goes on; SolError.
    """
    lens = _lens(source, thing_id)
    record, look, index = lens.record, lens.look, lens.index
    tokens = [
        {name: event[name] for name in ("index", "token_id", "text")} for event in lens.events
    ]
    followed = len(look.view["trails"][0]["kl"])
    report = lens_json(record.model, look.dtype, record.config, tokens[index], look.view)
    about = {"run_id": record.id, "run_kind": record.kind, "row": lens.row, "title": record.title}
    rest = {
        "policy": lens.policy,
        "following": tokens[index + 1 : index + 1 + followed],
        "joint": look.plane
        and {"bit_width": lens.bit_width, "rows": [row for line in look.plane for row in line]},
    }
    return {"lens": json_safe(about | report | rest)}


def csv_of_lens(source: Source, thing_id: str) -> str:
    """A row per level of every axis, then those of the joint grid; see ``docs/formats.md``.

    Raises: as ``document_of_lens``.
    """
    return csv_text(_COLUMNS, map(json_safe, _rows(_lens(source, thing_id))))


def page_of_lens(source: Source, thing_id: str) -> str:
    """The panel as a page, with the text around the token. Raises: as ``document_of_lens``."""
    lens = _lens(source, thing_id)
    view = whole_view(lens.record, lens.events)
    first = max(lens.index - SHOWN_BEFORE, 0)
    plane = lens.look.plane and {
        "bits": lens.bit_width,
        "rows": [[page_lens_row(row) for row in line] for line in lens.look.plane],
    }
    shown = {
        "run": view["run"],
        "rows": view["rows"][first : lens.index + SHOWN_AFTER + 1],
        "row": lens.row,
        "lens": page_lens(lens.look.view),
        "plane": plane,
    }
    scripts = (
        "inspect_rows.js",
        "parts.js",
        "lens_plot.js",
        "lens_tables.js",
        "lens.js",
        "shared_lens.js",
    )
    return html_page(f"What if? {view['run']['title']}", shown, scripts, ("lens.css",))


def _parts(thing_id: str) -> tuple[str, int, int | None, int | None]:
    found = _ID.fullmatch(thing_id)
    if found is None:
        raise DocumentError(f"a lens's id is RUN:TOKEN:ROW:BITS, got {thing_id[:60]!r}")
    run_id, index, row, bits = found.groups()
    return run_id, int(index), int(row) if row else None, int(bits) if bits else None


def _lens(source: Source, thing_id: str) -> _Lens:
    run_id, index, row, bits = _parts(thing_id)
    record, events = ended_run(source.store, run_id, "generation" if row is None else "inspection")
    if source.model is None:
        raise AppError(
            "A lens needs its model: export it on the page, where it is open, or look into a text "
            "with: python launch.py lens FILE --token I --json"
        )
    look = source.model.look(run_id, index, row, bits)
    return _Lens(record, events, index, row, bits, look)


def _rows(lens: _Lens) -> Iterator[dict[str, Any]]:
    taken = lens.look.view["taken"]["action"]
    for place, axis in enumerate(AXES):
        for at, row in enumerate(lens.look.view["axes"][place]):
            named = {"axis": axis, "level": row["action"][axis]}
            yield _row(row, taken) | named | {"probability": lens.probability(place, at)}
    for line in lens.look.plane or []:
        for row in line:
            yield _row(row, taken) | {"axis": "joint"}


def _row(row: dict[str, Any], taken: dict[str, Any]) -> dict[str, Any]:
    action: dict[str, Any] = row["action"]
    numbers = {name: row[name] for name in ("nll", "kl", "entropy")}
    return action | numbers | {"taken": action == taken}
