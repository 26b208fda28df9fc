"""Python calls that export things as files and import them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.pages.shared.pair_comparison import compare_pair
from app.pages.shared.uploads import UploadKind
from app.sharing.kinds import MAX_DOCUMENT_BYTES, export, import_document, runs_of
from app.web.calls import Request, field, owner_of
from app.web.services import Services


def export_file(services: Services, request: Request) -> dict[str, Any]:
    """One thing as a file: "kind", "id" and "form" in; name, media type and text out."""
    kind, thing_id, form = (field(request, name, str) for name in ("kind", "id", "form"))
    owner = owner_of(request)
    for run_id in runs_of(thing_id):
        services.runs.check_visible(owner, run_id)

    def score(run_ids: tuple[str, str]) -> list[list[float | None] | None]:
        return [side["nll"] for side in compare_pair(services, owner, run_ids)["sides"]]

    made = export(services.store, kind, thing_id, form, score)
    return {"name": made.name, "type": made.media_type, "text": made.text}


def _take_document(services: Services, owner: str, name: str, part: Path) -> dict[str, Any]:
    kind, new_id = import_document(services.store, owner, part.read_bytes())
    services.storage_cap.enforce()
    return {"kind": kind, "id": new_id}


EXPORT_HANDLERS = {"export_file": export_file}
IMPORT_UPLOAD = UploadKind(
    "A file to import",
    "Import it on the command line of your own machine: python launch.py import.",
    lambda services: min(MAX_DOCUMENT_BYTES, services.limits.upload_mb * 1024**2),
    lambda services, owner, name, size: None,
    _take_document,
)
