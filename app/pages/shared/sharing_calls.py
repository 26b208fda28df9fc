"""Python calls that compare two runs, export things as files and import them again."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.formats import json_safe
from app.host.damage import naming_damage
from app.model.compute import Workbench
from app.pages.shared.uploads import UploadKind
from app.runs.recorded_run import RecordedRun
from app.sharing.comparison import SEPARATOR, align_tokens
from app.sharing.kinds import MAX_DOCUMENT_BYTES, export, import_documents
from app.web.calls import Request, field, owner_of
from app.web.services import Services
from sol_core.errors import SolError


def compare_pair(services: Services, owner: str, run_ids: tuple[str, str]) -> dict[str, Any]:
    """The runs' alignment, and each side's "nll" per token under the dense model or "problem"."""
    # Reading and aligning long runs is work too: the place in line bounds how often it is done.
    with services.runs.line.held(owner) as place:
        first, second = (services.runs.recorded(owner, run_id) for run_id in run_ids)
        same = first.asked == second.asked
        with naming_damage("One of these runs"):
            answer = align_tokens(first.token_ids, second.token_ids, same_prompt=same)
            sides = [(replace(run, tokens=()), run.token_ids) for run in (first, second)]
        answer["sides"] = services.runs.ask(place, functools.partial(_both, sides=sides))
    return answer


_Side = tuple[RecordedRun, list[int]]  # what is known of a run, and the ids of its tokens


def _both(bench: Workbench, sides: list[_Side]) -> list[dict[str, Any]]:
    return [_dense(bench.model, run, ids) for run, ids in sides]


def _dense(model: Any, run: RecordedRun, ids: list[int]) -> dict[str, Any]:
    """One side under the dense model; a side that cannot be scored says why."""
    from sol_core.comparing.scoring import dense_nll

    if not ids:
        return {"nll": None, "problem": "Nothing was generated."}
    try:
        prompt = run.prompt_ids(model)
        nll = dense_nll(model, [*prompt, *ids], len(prompt))
    except SolError as error:
        return {"nll": None, "problem": str(error)}
    return {"nll": json_safe(nll), "problem": None}


def export_file(services: Services, request: Request) -> dict[str, Any]:
    """One thing as a file: "kind", "id" and "form" in; name, media type and text out."""
    kind, thing_id, form = (field(request, name, str) for name in ("kind", "id", "form"))
    owner = owner_of(request)
    for run_id in thing_id.split(SEPARATOR):
        services.runs.check_visible(owner, run_id)

    def score(run_ids: tuple[str, str]) -> list[list[float | None] | None]:
        return [side["nll"] for side in compare_pair(services, owner, run_ids)["sides"]]

    made = export(services.store, kind, thing_id, form, score)
    return {"name": made.name, "type": made.media_type, "text": made.text}


def _take_document(services: Services, owner: str, name: str, part: Path) -> dict[str, Any]:
    (kind, new_id), *_ = import_documents(services.store, owner, part.read_bytes())
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
