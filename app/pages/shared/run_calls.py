"""Python calls shared by Explore and Inspect: a run's life, its lens, and the model's state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from app.formats import budget_text, iso, schedule_label
from app.host.damage import naming_damage
from app.host.errors import DamagedError
from app.runs.lens_desk import Look, ask_lens, levels_of, page_effects, without_pages
from app.web.calls import Handler, Request, by_name, field, owner_of, whole_numbers
from app.web.services import Services
from sol_core.errors import SolError
from storage import RunKind, title_of

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
        """One token under every level of every axis, and what it did to the next ones."""
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
        runs = []
        for record in records:
            if record.status == "running" or record.num_tokens == 0 or record.damage is not None:
                continue
            with suppress(DamagedError), naming_damage("This run"):
                schedule = schedule_label(record.schedule, record.config)
                facts = f"{schedule} · {budget_text(record.config)}"
                title = record.title or title_of(record.prompt)
                made = iso(record.created_at)
                runs.append({"id": record.id, "title": title, "facts": facts, "created_at": made})
        return {"runs": runs}

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
