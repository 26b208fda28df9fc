"""Python calls of every page with runs: a run's life and lens, comparison, export and import."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app.formats import budget_text, iso, json_safe, schedule_label
from app.host.errors import DamagedError, naming_damage
from app.model.compute import Workbench
from app.pages.shared.uploads import UploadKind
from app.results.shipped import recorded_prompts
from app.runs.lens import Look, ask_lens, levels_of, page_effects, without_pages
from app.runs.recorded_run import RecordedRun, title_of_run, variant_words
from app.sharing.kinds import (
    MAX_DOCUMENT_BYTES,
    SEPARATOR,
    align_tokens,
    export,
    import_documents,
    pair_verdict,
)
from app.sharing.run_document import SeenRun
from app.web.calls import Handler, Request, by_name, field, owner_of, whole_numbers
from app.web.services import Services
from sol_core.errors import SolError
from sol_core.fields import from_json
from storage import RunKind, RunRecord

NUM_SAVED = 50


@dataclass(frozen=True, slots=True)
class RunCalls:
    """The calls of a page whose runs are of one kind; ``form_of`` makes a form's values of one."""

    kind: RunKind
    form_of: Callable[[dict[str, Any]], dict[str, Any]]

    def home(self, services: Services, request: Request) -> dict[str, Any]:
        """State of the model, the visitor's unfinished run, and for the server's owner notices."""
        return {
            "model": asdict(services.loader.status()),
            "active": services.runs.active(owner_of(request), self.kind),
            "notices": [] if services.is_shared else list(services.store.notices),
        }

    def retry_model(self, services: Services, request: Request) -> dict[str, Any]:
        """Load the model again after a failure; answers as ``home``."""
        services.loader.retry()
        return self.home(services, request)

    def poll_run(self, services: Services, request: Request) -> dict[str, Any]:
        """Rows from the cursor on; the first answer also says what the run is."""
        cursor, run_id = max(0, field(request, "cursor", int)), field(request, "run_id", str)
        view = services.runs.poll(owner_of(request), run_id, cursor, self.kind)
        if view["status"] == "loading":
            view["model"] = asdict(services.loader.status())
        if run := view.get("run"):
            run["settings"] = None  # where another release made it
            with naming_damage("This run"), suppress(SolError):
                run["settings"] = self.form_of(run["config"])
        return view

    def stop_run(self, services: Services, request: Request) -> dict[str, Any]:
        services.runs.stop(owner_of(request), field(request, "run_id", str))
        return {}

    def look_at_token(self, services: Services, request: Request) -> dict[str, Any]:
        """Look at one token under every level of every axis, and what it did to the next ones."""
        return self._ask_lens(services, request, levels_of)

    def leave_out_pages(self, services: Services, request: Request) -> dict[str, Any]:
        """One token decoded again without some pages of its cache."""
        return self._ask_lens(services, request, without_pages, whole_numbers(request, "pages"))

    def rank_pages(self, services: Services, request: Request) -> dict[str, Any]:
        """The effects of single pages on one token, some more with every call."""
        return self._ask_lens(services, request, page_effects)

    def list_policies(self, services: Services, request: Request) -> dict[str, Any]:
        """Names of the stored policies, the shipped one first."""
        return {"policies": services.policies.names()}

    def saved_runs(self, services: Services, request: Request) -> dict[str, Any]:
        """The newest generations that have ended, to choose one from."""
        records = services.store.runs.list(
            owner=owner_of(request) if services.is_shared else None,
            limit=NUM_SAVED,
            kind="generation",
        )
        rows = [
            run_row(record)
            for record in records
            if record.num_tokens and record.prompt not in recorded_prompts()
        ]
        return {
            "runs": [
                {name: row[name] for name in ("id", "title", "created_at")}
                | {"facts": f"{row['schedule_label']} · {row['budget']}"}
                for row in rows
                if row["status"] not in ("running", "damaged")
            ]
        }

    def handlers(self) -> dict[str, Handler]:
        return by_name(
            self.home,
            self.retry_model,
            self.poll_run,
            self.stop_run,
            self.look_at_token,
            self.leave_out_pages,
            self.rank_pages,
            self.list_policies,
            self.saved_runs,
        )

    def _ask_lens(
        self, services: Services, request: Request, look: Look, *asked: Any
    ) -> dict[str, Any]:
        run_id, index = field(request, "run_id", str), field(request, "index", int)
        row = field(request, "row", int) if self.kind == "inspection" else None
        return ask_lens(services.runs, owner_of(request), run_id, row, look, index, *asked)


def run_row(record: RunRecord) -> dict[str, Any]:
    """Return a saved run's row in a list."""
    row: dict[str, Any] = {
        "id": record.id,
        "kind": record.kind,
        "title": title_of_run(record.kind, record.prompt, record.title),
        "status": record.status,
        "status_label": record.status.capitalize(),
        "schedule_label": "",
        "budget": "",
        "tokens": record.num_tokens,
        "created_at": iso(record.created_at),
        "model": record.model,
        "parent": record.parent,
        "variant": "",
        "can_delete": record.status != "running",
    }
    try:
        if record.damage is not None:
            raise DamagedError(record.damage)
        with naming_damage("This run"):
            row["schedule_label"] = schedule_label(record.schedule, record.config)
            row["budget"] = budget_text(record.config)
            row["variant"] = variant_words(record)
    except DamagedError:
        row |= {"status": "damaged", "status_label": "Damaged"}
    return row


def compare_pair(services: Services, owner: str, run_ids: tuple[str, str]) -> dict[str, Any]:
    """The runs' alignment, and each side's "nll" per token under the dense model or "problem"."""
    # Reading and aligning long runs is work too: a queued ticket bounds how often it is done.
    with services.runs.model_queue.held(owner) as ticket:
        first, second = (services.runs.recorded(owner, run_id) for run_id in run_ids)
        same = first.asked == second.asked
        with naming_damage("One of these runs"):
            answer = align_tokens(first.token_ids, second.token_ids, same_prompt=same)
            sides = [(replace(run, tokens=()), run.token_ids) for run in (first, second)]
        answer["sides"] = services.runs.ask(ticket, functools.partial(_dense_nll, sides=sides))
    with naming_damage("One of these runs"):
        both, nll = (first, second), [side["nll"] for side in answer["sides"]]
        answer["verdict"] = pair_verdict(
            [run.config for run in both], [run.tokens for run in both], nll
        )
    return answer


def _dense_nll(
    bench: Workbench, sides: list[tuple[RecordedRun, list[int]]]
) -> list[dict[str, Any]]:
    """Each side under the dense model; one that cannot be scored says why."""
    from sol_core.generation.scoring import dense_nll

    answers: list[dict[str, Any]] = []
    for run, ids in sides:
        nll, problem = None, None if ids else "Nothing was generated."
        try:
            if ids:
                prompt = run.prompt_ids(bench.model)
                nll = json_safe(dense_nll(bench.model, [*prompt, *ids], len(prompt)))
        except SolError as error:
            problem = str(error)
        answers.append({"nll": nll, "problem": problem})
    return answers


def export_file(services: Services, request: Request) -> dict[str, Any]:
    """Write one thing as a file: "kind", "id" and "form" in, and of a run's page ``SeenRun``.

    Answers with name, media type and text.
    """
    kind, thing_id, form = (field(request, name, str) for name in ("kind", "id", "form"))
    owner = owner_of(request)
    for run_id in thing_id.split(SEPARATOR):
        services.runs.check_visible(owner, run_id)

    def score(run_ids: tuple[str, str]) -> list[list[float | None] | None]:
        return [side["nll"] for side in compare_pair(services, owner, run_ids)["sides"]]

    seen = from_json(SeenRun, request["seen"], "seen") if request.get("seen") else None
    made = export(services.store, kind, thing_id, form, score, seen)
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
