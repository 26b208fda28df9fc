"""One trial: start a server and workers, let visitors and jobs loose on them, measure."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from app.host.database import database_location, open_database
from app.host.limits import Limits
from app.host.paths import DataDir
from app.pages.shared.job_calls import JOBS
from sol_core.errors import ConfigError
from storage import JobRecord
from tests.load.job_queue import job_problems, queue_jobs, wait_for_jobs
from tests.load.page_client import PageClient
from tests.load.processes import Processes, address_of, running
from tests.load.visitors import Visit, run_visitors, turn_problems, visit_problems, wait_for_model

MODEL_S, JOBS_S = 300.0, 3600.0
OWNERS = 5  # of the jobs; each may queue some
_COMPLAINT = re.compile(r"locked|Traceback|could not be saved|WARNING|ERROR|CRITICAL")
_SENTENCE = "In winter number {n} the sea was grey, and the boats of the village stayed ashore. "


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How much of what."""

    clients: int = 20
    jobs: int = 50
    new_tokens: int = 48
    schedule: str = "policy:default"

    def __post_init__(self) -> None:
        in_line = Limits.from_environment().queue
        for name, most in (("clients", in_line), ("jobs", OWNERS * JOBS.of_visitor)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be 1 to {most}, got {getattr(self, name)}")


def run_trial(
    processes: Processes, options: LoadOptions, say: Callable[[str], None] = lambda message: None
) -> dict[str, Any]:
    """Returns a JSON-ready report; its ``problems`` are sentences, none when all went well.

    Raises: AppError when the server does not start, or no answer comes at all.
    """
    data_dir = processes.data_dir
    data_dir.prepare()
    corpus = data_dir.corpora / "load.txt"
    corpus.write_text("".join(_SENTENCE.format(n=n) for n in range(2000)), "utf-8")
    with ExitStack() as started:
        server = started.enter_context(running(processes.server, data_dir.logs / "server.out"))
        url = address_of(data_dir, server)
        for number, command in enumerate(processes.workers):
            log = data_dir.logs / f"worker-{number}.out"
            started.enter_context(running(command, log))
        owners = [started.enter_context(PageClient(url)) for _ in range(OWNERS)]
        for owner in owners:
            owner.open()
        say("waiting for the model")
        wait_for_model(owners[0], MODEL_S)
        settings = {"max_new_tokens": options.new_tokens, "schedule": options.schedule}
        settings["ignore_end_of_text"] = True
        first = run_visitors(url, 1, settings)  # what a first run costs once is no growth
        memory = {"before": memory_mb(server.pid, "VmRSS")}
        say(f"{options.clients} visitors and {options.jobs} jobs")
        began = time.monotonic()
        made = queue_jobs(owners, options.jobs, {"kind": "path", "name": str(corpus)})
        visits = run_visitors(url, options.clients, settings)
        visited_s = time.monotonic() - began
        order = _line(owners[0], len(visits))
        say(f"visitors done after {visited_s:.0f} s; waiting for jobs")
        wait_for_jobs(made, JOBS_S)
        jobs_s = time.monotonic() - began
        memory["after"] = memory_mb(server.pid, "VmRSS")
        memory["peak"] = memory_mb(server.pid, "VmHWM")
        with open_database(data_dir) as store:
            jobs = [store.jobs.get(job_id) for _, job_id in made]
            ended = sorted(order, key=lambda run_id: store.runs.get(run_id).updated_at)
        _clean_up(owners[0], [*first, *visits], jobs)
    num_workers = len(processes.workers) + processes.own_workers
    complaints = _complaints(data_dir)
    return {
        "options": asdict(options),
        "database": _kind_of_database(data_dir),
        "workers": num_workers,
        "tokens": sum(visit.announced for visit in visits),
        "visitors_s": visited_s,
        "jobs_s": jobs_s,
        "first_token_s": _spread([visit.waited_s for visit in visits]),
        "call_ms": _spread([wait for visit in visits for wait in visit.waits_ms]),
        "calls": sum(len(visit.waits_ms) for visit in visits),
        "memory_mb": memory,
        "complaints": complaints,
        "problems": [
            *visit_problems(visits),
            *turn_problems(ended, order),
            *job_problems(jobs, num_workers),
            *complaints,
        ],
    }


def _line(client: PageClient, count: int) -> list[str]:
    """Ids of the newest runs in the order in which they were put in line."""
    runs = client.ask("history", "list_runs", before=None, limit=count, query="")["runs"]
    return [run["id"] for run in reversed(runs)]


def _clean_up(client: PageClient, visits: Sequence[Visit], jobs: Sequence[JobRecord]) -> None:
    """What was made for the trial goes, whatever the database."""
    for visit in visits:
        client.ask("history", "delete_run", run_id=visit.run_id)
    for job in jobs:
        client.ask("lab", "delete_job", job_id=job.id)


def memory_mb(pid: int, name: str) -> float | None:
    """A line of the process's status in MB; None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1000 if found else None


def _complaints(data_dir: DataDir) -> list[str]:
    """Lines of any log that speak of a lock, a warning or an error."""
    return [
        f"{path.name}: {line[:300]}"
        for path in sorted(data_dir.logs.iterdir())
        for line in path.read_text("utf-8", "replace").splitlines()
        if _COMPLAINT.search(line)
    ]


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    if len(values) < 2:
        return {"p50": values[0], "p95": values[0], "max": values[0]} if values else {}
    cuts = quantiles(values, n=20, method="inclusive")
    return {"p50": cuts[9], "p95": cuts[18], "max": max(values)}


def _kind_of_database(data_dir: DataDir) -> str:
    return "SQLite" if isinstance(database_location(data_dir), Path) else "PostgreSQL"
