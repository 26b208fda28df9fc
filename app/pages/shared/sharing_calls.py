"""Python calls that export things as files and import them again."""

from __future__ import annotations

from typing import Any

from app.pages.shared.pair_comparison import compare_pair
from app.pages.shared.uploads import Uploads, begin_file, take_piece
from app.sharing.kinds import MAX_DOCUMENT_BYTES, export, import_document, runs_of
from app.web.calls import Request, by_name, field, owner_of
from app.web.services import Services


def export_file(services: Services, request: Request) -> dict[str, Any]:
    """One thing as a file: "kind", "id" and "form" in; name, media type and text out.

    Who may see the runs behind it may take it.
    """
    kind, thing_id, form = (field(request, name, str) for name in ("kind", "id", "form"))
    owner = owner_of(request)
    for run_id in runs_of(thing_id):
        services.runs.check_visible(owner, run_id)

    def score(run_ids: tuple[str, str]) -> list[list[float | None] | None]:
        return [side["nll"] for side in compare_pair(services, owner, run_ids)["sides"]]

    made = export(services.store, kind, thing_id, form, score)
    return {"name": made.name, "type": made.media_type, "text": made.text}


def begin_import(services: Services, request: Request) -> dict[str, Any]:
    """Announce a file; the answer names the upload."""
    return begin_file(_uploads(services, request), request)


def import_piece(services: Services, request: Request) -> dict[str, Any]:
    """One piece as base64; after the last one the file's content is checked and saved.

    Raises: UploadError, DocumentError.
    """
    have, part = take_piece(_uploads(services, request), request)
    if part is None:
        return {"have": have}
    try:
        kind, new_id = import_document(services.store, owner_of(request), part.read_bytes())
    finally:
        part.unlink(missing_ok=True)
    services.storage_cap.enforce()
    return {"have": have, "kind": kind, "id": new_id}


def _uploads(services: Services, request: Request) -> Uploads:
    advice = "Import it on the command line of your own machine: python launch.py import."
    limit = min(MAX_DOCUMENT_BYTES, services.limits.upload_mb * 1024**2)
    folder, owner = services.data_dir.uploads, owner_of(request)
    return Uploads(folder, owner, limit, "A file to import", advice)


EXPORT_HANDLERS = {"export_file": export_file}
IMPORT_HANDLERS = by_name(begin_import, import_piece)
