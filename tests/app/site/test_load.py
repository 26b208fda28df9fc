"""A page under load from many visitors while jobs run: nothing lost, locked, unfair or unbounded.

The same on both databases, on a stand-in engine; ``bench load`` does it on the real model.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.cli import main as cli
from app.cli.commands import bench
from app.host.errors import AppError
from sol_core.errors import ConfigError
from storage import JobRecord, Store
from tests.app.call_schemas import all_calls
from tests.app.load_stand_in import NUM_WORKERS, stand_in_processes
from tests.load import LoadOptions, run_trial
from tests.load.job_queue import job_problems
from tests.load.strangers import strangers_report
from tests.load.visitors import Visit, turn_problems, visit_problems

logger = logging.getLogger(__name__)
OPTIONS = LoadOptions(clients=8, jobs=20, new_tokens=48)
GROWTH_MB = 100.0  # of the page; 20 visitors and 50 jobs were measured to take 70


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_visitors_and_jobs_at_once(tmp_path: Path, database_url: str | None) -> None:
    report = run_trial(stand_in_processes(tmp_path / "load"), OPTIONS)
    logger.info("%s", report)
    assert report["problems"] == []
    assert report["tokens"] == OPTIONS.clients * OPTIONS.new_tokens
    assert report["workers"] == NUM_WORKERS
    assert report["database"] == ("SQLite" if database_url is None else "PostgreSQL")
    memory = report["memory_mb"]
    if memory["before"] is not None:  # a system that tells
        assert memory["peak"] - memory["before"] < GROWTH_MB


def test_strangers_leave_no_traceback_and_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOL_PUBLIC", "1")
    handlers = [(call.tab, call.name, list(call.fields)) for call in all_calls()]
    report = strangers_report(stand_in_processes(tmp_path / "load", 0), 0.2, handlers)
    assert report["server_lives"]
    assert report["tracebacks"] == 0
    assert not [status for status in report["answers"] if status.startswith("5")]
    assert report["growth_mb"] < GROWTH_MB


@pytest.mark.parametrize("counts", [{"clients": 0}, {"clients": 33}, {"jobs": 0}, {"jobs": 101}])
def test_more_than_a_page_takes_is_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(counts))} must be 1 to"):
        LoadOptions(**counts)


def test_an_installed_copy_is_told_where_the_trial_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "is_checkout", lambda: False)
    args = cli.parse(["bench", "load", "--data-dir", str(tmp_path)])
    with pytest.raises(AppError, match="needs the project's repository"):
        args.run(args)


@pytest.fixture
def visit() -> Visit:
    tokens = ((0, " a"), (1, " b"), (2, " c"))
    return Visit("x", "finished", tokens, 3, tokens, 0.1, (1.0,))


def test_a_whole_visit_has_no_problem(visit: Visit) -> None:
    assert visit_problems([visit, replace(visit, run_id="y")]) == []
    assert visit_problems([replace(visit, status="failed")]) == ["run x ended as failed"]


@pytest.mark.parametrize(
    "seen",
    [
        ((0, " a"), (2, " c")),
        ((0, " a"), (1, " b"), (1, " b"), (2, " c")),
        ((1, " b"), (0, " a"), (2, " c")),
        ((0, " a"), (1, " b")),
    ],
)
def test_a_lost_doubled_or_misplaced_token_is_found(
    visit: Visit, seen: tuple[tuple[int, str], ...]
) -> None:
    assert len(visit_problems([replace(visit, seen=seen, stored=seen)])) == 1
    assert "stored" in visit_problems([replace(visit, stored=seen)])[0]


def test_a_run_out_of_turn_is_found() -> None:
    assert turn_problems("abcd", "abcd") == []
    assert turn_problems("bacd", "abcd") == [], "within one save"
    assert turn_problems("bcda", "abcd") == ["run a was number 0 in line, 3 to end"]


@pytest.fixture
def finished(store: Store) -> list[JobRecord]:
    """Three jobs of each of two owners, begun in turns, a second apart."""
    made = []
    for number in range(6):
        job = store.jobs.create("train", "ab"[number % 2], str(number), {}, worker="w")
        job = store.jobs.finish(job.id, "w", "succeeded", {})
        first = datetime(2026, 1, 1, tzinfo=UTC)
        moment = first + timedelta(seconds=number)
        made.append(replace(job, created_at=first, started_at=moment))
    return made


def test_turns_have_no_problem(finished: list[JobRecord]) -> None:
    assert job_problems(finished, 1) == []


def test_jobs_out_of_turn_are_found(finished: list[JobRecord]) -> None:
    owners = "abbbba"
    unfair = [replace(job, owner=owner) for job, owner in zip(finished, owners, strict=True)]
    assert job_problems(unfair, 3) == ["owner a: passed 4 times after place 0"]
    assert job_problems(unfair, 4) == []
    queued_at = datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)  # one of theirs had begun
    late = replace(unfair[-1], created_at=queued_at)
    assert job_problems([*unfair[:-1], late], 2) == ["owner a: passed 3 times after place 0"]
    assert job_problems([*unfair[:-1], late], 3) == []
    swapped = [replace(job, seq=-job.seq) for job in finished]
    assert len(job_problems(swapped, 1)) == 2
    failed = [replace(finished[0], status="failed", error="why"), *finished[1:]]
    assert job_problems(failed, 1) == [f"job {finished[0].id} ended as failed: why"]
