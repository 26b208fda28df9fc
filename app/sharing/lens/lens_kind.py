"""An open lens as a thing that can be shared, looked at when it is exported: all digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from app.formats.csv_cells import csv_text, plain_cell
from app.formats.plain_json import json_safe
from app.runs.views import whole_view
from app.sharing.html_page import html_page
from app.sharing.kind import Kind, Source
from app.sharing.lens.lens_document import document_of_lens, import_lens
from app.sharing.lens.lens_source import LookedAt, is_lens_id, looked_at, title_of_lens
from sol_core.actions import AXES, AXIS_FIELDS, Action

SHOWN_BEFORE, SHOWN_AFTER = 80, 16  # tokens around the one that is looked at
_COLUMNS = ("axis", "level", *AXIS_FIELDS, "nll", "kl", "entropy", "taken", "probability",
            "choice_text", "choice_probability")  # fmt: skip


def _csv(source: Source, thing_id: str) -> str:
    """A row per level of every axis, then those of the joint grid; see ``docs/formats.md``.

    Raises: as ``looked_at``.
    """
    return csv_text(_COLUMNS, map(json_safe, _rows(looked_at(source, thing_id))))


def _page(source: Source, thing_id: str) -> str:
    """The panel as a page, with the text around the token. Raises: as ``looked_at``."""
    lens = looked_at(source, thing_id)
    view = whole_view(lens.record, lens.events)
    first = max(lens.index - SHOWN_BEFORE, 0)
    plane = lens.look.plane and {
        "bits": lens.look.bit_width,
        "rows": json_safe(lens.look.plane),
    }
    shown = {
        "run": view["run"],
        "rows": view["rows"][first : lens.index + SHOWN_AFTER + 1],
        "row": lens.row,
        "lens": json_safe(lens.look.view),
        "plane": plane,
    }
    return html_page(f"What if? {view['run']['title']}", shown, "shared_lens", ("lens",))


def _rows(lens: LookedAt) -> Iterator[dict[str, Any]]:
    taken = Action(**lens.look.view["taken"]["action"])
    for place, axis in enumerate(AXES):
        for at, row in enumerate(lens.look.view["axes"][place]):
            named = {"axis": axis.field, "level": row["action"][axis.field]}
            yield _row(row, taken) | named | {"probability": lens.probability(place, at)}
    for line in lens.look.plane or []:
        for row in line:
            yield _row(row, taken) | {"axis": "joint"}


def _row(row: dict[str, Any], taken: Action) -> dict[str, Any]:
    action = Action(**row["action"])
    numbers = {name: row[name] for name in ("nll", "kl", "entropy")}
    choice = row.get("choice") or {}  # missing in looks of before it was kept
    chosen = {
        "choice_text": plain_cell(choice.get("text", "")),
        "choice_probability": choice.get("probability"),
    }
    return asdict(action) | numbers | {"taken": action == taken} | chosen


LENS = Kind(
    "sol-explorer-lens",
    2,
    address=None,
    owns=lambda store, thing_id: is_lens_id(thing_id),
    title=title_of_lens,
    write=lambda source, thing_id: document_of_lens(looked_at(source, thing_id), source.store),
    texts={"csv": _csv, "html": _page},
    read=import_lens,
)
