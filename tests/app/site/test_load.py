"""A page under load from many visitors while jobs run."""

import logging

import pytest

from sol_core.errors import ConfigError
from tests.app.call_schemas import all_calls
from tests.app.load_stand_in import NUM_WORKERS, stand_in_processes
from tests.load import LoadOptions, run_trial
from tests.load.fuzz import strangers_report

logger = logging.getLogger(__name__)
OPTIONS = LoadOptions(clients=8, jobs=20, new_tokens=48)
GROWTH_MB = 100.0  # of the page; 20 visitors and 50 jobs were measured to take 70


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_visitors_and_jobs_at_once(tmp_path, database_url):
    report = run_trial(stand_in_processes(tmp_path / "load"), OPTIONS)
    logger.info("%s", report)
    assert report["problems"] == []
    assert report["tokens"] == OPTIONS.clients * OPTIONS.new_tokens
    assert report["workers"] == NUM_WORKERS
    assert report["database"] == ("SQLite" if database_url is None else "PostgreSQL")
    memory = report["memory_mb"]
    if memory["before"] is not None:  # a system that tells
        assert memory["peak"] - memory["before"] < GROWTH_MB


def test_strangers_leave_no_traceback_and_little_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("SOL_PUBLIC", "1")
    handlers = [(call.tab, call.name, list(call.fields)) for call in all_calls()]
    report = strangers_report(stand_in_processes(tmp_path / "load", 0), 0.2, handlers)
    assert report["server_lives"]
    assert report["tracebacks"] == 0
    assert not [status for status in report["answers"] if status.startswith("5")]
    assert report["growth_mb"] < GROWTH_MB


@pytest.mark.parametrize("counts", [{"clients": 0}, {"clients": 33}, {"jobs": 0}, {"jobs": 101}])
def test_more_than_a_page_takes_is_refused(counts):
    with pytest.raises(ConfigError, match=f"{next(iter(counts))} must be 1 to"):
        LoadOptions(**counts)
