"""Saved generations and inspections as things that can be shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from app.runs.views import whole_view
from app.sharing.html_page import html_page
from app.sharing.kind import Kind, Source
from app.sharing.runs.generation_document import GENERATION
from app.sharing.runs.inspection_document import INSPECTION
from app.sharing.runs.run_csv import csv_of_generation, csv_of_inspection
from app.sharing.runs.run_document import RunDocument, ended_run
from storage import NotFoundError, Store


def _kind(
    form: str,
    tab: str,
    document: RunDocument,
    csv: Callable[[list[dict[str, Any]]], str],
    styles: tuple[str, ...],
) -> Kind:
    def owns(store: Store, run_id: str) -> bool:
        try:
            return store.runs.get(run_id).kind == document.kind
        except NotFoundError:
            return False

    def page(source: Source, run_id: str) -> str:
        view = whole_view(*ended_run(source.store, run_id, document.kind))
        return html_page(view["run"]["title"], view, f"shared_{document.part}", styles)

    def text(source: Source, run_id: str) -> str:
        whole = {"format": form, "version": 1} | document.write(source.store, run_id)
        # ASCII only: text that no UTF-8 can hold (half characters) survives as well.
        return json.dumps(whole, allow_nan=False) + "\n"

    return Kind(
        address=(document.part, tab),
        owns=owns,
        title=lambda store, run_id: store.runs.get(run_id).title,
        texts={
            "csv": lambda source, run_id: csv(ended_run(source.store, run_id, document.kind)[1]),
            "html": page,
            "json": text,
        },
        format=form,
        version=1,
        read=document.read,
    )


_RUN_STYLES = ("runs/costs", "runs/machine", "runs/dock")
RUN = _kind("sol-explorer-run", "explore", GENERATION, csv_of_generation, _RUN_STYLES)
INSPECTION_RUN = _kind(
    "sol-explorer-inspection", "inspect", INSPECTION, csv_of_inspection, ("runs/costs", "inspect")
)
