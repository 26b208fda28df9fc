"""What older releases or other hands left in a database or a policy folder: shown, and deletable.

The rows are planted in a real SQLite file behind the store's back; answers go through orjson, as
the server sends them.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import orjson
import pytest

from app.host.paths import DataDir
from app.jobs.runner import Workplace, run_job
from app.pages.explore.handlers import HANDLERS as EXPLORE
from app.pages.history.handlers import HANDLERS as HISTORY
from app.pages.inspect.handlers import HANDLERS as INSPECT
from app.pages.lab.jobs import HANDLERS as LAB
from app.pages.policies.handlers import HANDLERS as POLICIES
from app.policies.library import SHIPPED_FOLDER
from app.web.calls import server_functions
from app.web.services import Services
from sol_core.config import GenerationConfig
from storage import TASKS_JOB, JobKind, RunRecord
from tests.app.command_line import RunCommand

ANNA = "a" * 32
HUGE = 10**30
Call = Callable[..., dict[str, Any]]

CONFIG = GenerationConfig().to_dict()
BAD_CONFIGS: dict[str, str] = {
    "seed": json.dumps(CONFIG | {"sampling": CONFIG["sampling"] | {"seed": HUGE}}),
    "infinity": json.dumps(CONFIG | {"episode_steps": 1}).replace(
        '"episode_steps": 1', '"episode_steps": Infinity'
    ),
    "no JSON": '{"schedule": ',
    "no object": "[1]",
    "other shape": json.dumps(CONFIG | {"schedule": 5}),
    "other budget": json.dumps(
        CONFIG | {"schedule": CONFIG["schedule"] | {"budget": {"bit_width": "8"}}}
    ),
}


@pytest.fixture
def call(services: Services) -> Call:
    handlers = {**INSPECT, **EXPLORE, **HISTORY, **LAB, **POLICIES}
    by_name = {made.__name__: made for made in server_functions(services, handlers)}

    def invoke(name: str, /, **request: Any) -> dict[str, Any]:
        sent = orjson.dumps(by_name[name]([{"owner": ANNA, **request}]))
        return dict(orjson.loads(sent))

    return invoke


def plant(data_dir: DataDir, table: str, row_id: str, **columns: Any) -> None:
    """Put values into a row, past everything that checks them."""
    with closing(sqlite3.connect(data_dir.database)) as database:
        for name, value in columns.items():
            is_blob = isinstance(value, str) and name != "kind"
            data = value.encode() if is_blob else value
            database.execute(f"UPDATE {table} SET {name} = ? WHERE id = ?", (data, row_id))
        database.commit()


def a_run(services: Services, prompt: str = "A story") -> RunRecord:
    made = services.store.runs.create(ANNA, prompt, "m", "static", CONFIG)
    services.store.runs.finish(made.id, "finished")
    return made


@pytest.mark.parametrize("config", BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_a_damaged_run_is_listed_as_such_refused_in_words_and_deleted(
    services: Services, call: Call, data_dir: DataDir, config: str
) -> None:
    good, bad = a_run(services, "Good"), a_run(services, "Bad")
    plant(data_dir, "runs", bad.id, config=config)
    rows = call("list_runs", query="", limit=10)["runs"]
    assert [(row["title"], row["status"]) for row in rows] == [
        ("Bad", "damaged"),
        ("Good", "finished"),
    ]
    assert rows[0]["status_label"] == "Damaged"
    assert rows[0]["can_delete"]
    polled = call("poll_run", run_id=bad.id, cursor=0)
    if "refused" in polled:
        assert "damaged" in polled["refused"]
    else:  # it can be read, but not be started again
        assert polled["run"]["settings"] is None
    assert "view" not in polled
    assert call("saved_runs")["runs"] == []
    assert call("delete_run", run_id=bad.id) == {}
    assert [row["id"] for row in call("list_runs", query="", limit=10)["runs"]] == [good.id]


@pytest.mark.parametrize(
    "columns",
    [
        {"prefill": '{"prompt_tokens": 3}'},
        {"summary": '{"spend": 3}'},
        {"summary": json.dumps({"num_tokens": HUGE})},
        {"title": b"\xff\xfe"},
        {"created_us": 2**62},
        {"kind": "dream"},
    ],
    ids=str,
)
def test_other_parts_of_a_run_may_be_damaged(
    services: Services, call: Call, data_dir: DataDir, columns: dict[str, Any]
) -> None:
    bad = a_run(services)
    plant(data_dir, "runs", bad.id, **columns)
    (row,) = call("list_runs", query="", limit=10)["runs"]
    assert row["can_delete"]
    assert "refused" in call("poll_run", run_id=bad.id, cursor=0)
    assert call("delete_run", run_id=bad.id) == {}


def test_a_damaged_token_is_refused_in_words(
    services: Services, call: Call, data_dir: DataDir
) -> None:
    bad = a_run(services)
    services.store.runs.append_events(bad.id, [{"index": 0}])
    assert "This run is damaged" in call("poll_run", run_id=bad.id, cursor=0)["refused"]
    with closing(sqlite3.connect(data_dir.database)) as database:
        record = json.dumps({"index": 0, "token_id": HUGE}).encode()
        database.execute("UPDATE events SET record = ?", (record,))
        database.commit()
    assert "beyond 64 bits" in call("poll_run", run_id=bad.id, cursor=0)["refused"]


BAD_PARAMS = {
    "seed": json.dumps({"config": {"seed": HUGE}, "model": "m", "policies": ["p"]}),
    "no JSON": '{"config": ',
}
ODD_PARAMS = {
    "config": '{"config": 5, "policies": 7, "policy": [], "model": {}}',
    "nothing": "{}",
    "endless": '{"config": {"grpo": {"updates": 1e300}}, "model": "m", "name": "n"}',
}
KINDS: tuple[JobKind, ...] = ("train", "evaluate", TASKS_JOB)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("params", BAD_PARAMS.values(), ids=BAD_PARAMS)
def test_a_damaged_job_is_listed_as_such_and_deleted(
    services: Services, call: Call, data_dir: DataDir, kind: JobKind, params: str
) -> None:
    job = services.store.jobs.create(kind, ANNA, "t", {}, worker="w")
    services.store.jobs.finish(job.id, "w", "failed")
    plant(data_dir, "jobs", job.id, params=params)
    (row,) = call("list_jobs", group="all", limit=10)["jobs"]
    assert (row["is_damaged"], row["status_label"], row["can_delete"]) == (True, "Damaged", True)
    view = call("poll_job", job_id=job.id, cursor=-1, sample_step=None)["job"]
    assert "damaged" in view["error"]
    assert "refused" in call("job_settings", kind=kind, job_id=job.id)
    listed = call("policy_details", name="default")["evaluations"]
    assert [one["id"] for one in listed] == ["shipped"]
    assert call("delete_job", job_id=job.id) == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("params", ODD_PARAMS.values(), ids=ODD_PARAMS)
def test_odd_parameters_take_no_page_down(
    services: Services, call: Call, data_dir: DataDir, kind: JobKind, params: str
) -> None:
    job = services.store.jobs.create(kind, ANNA, "t", {}, worker="w")
    services.store.jobs.finish(job.id, "w", "succeeded", {"odd": 3})
    plant(data_dir, "jobs", job.id, params=params, result='{"budgets": 5, "policy": {}}')
    assert call("list_jobs", group="all", limit=10)["jobs"][0]["id"] == job.id
    assert call("poll_job", job_id=job.id, cursor=-1, sample_step=None)["job"]["id"] == job.id
    assert "refused" in call("job_settings", kind=kind, job_id=job.id)
    assert call("policy_details", name="default")["name"] == "default"
    if kind != "train":
        answer = call("job_result", kind=kind, job_id=job.id)
        assert "view" in answer or "damaged" in answer["refused"]
    assert call("delete_job", job_id=job.id) == {}


def test_a_worker_fails_a_damaged_job_and_goes_on(services: Services, data_dir: DataDir) -> None:
    jobs = services.store.jobs
    damaged = jobs.create("train", ANNA, "bad", {})
    fine = jobs.create("train", ANNA, "good", {})
    plant(data_dir, "jobs", damaged.id, params=BAD_PARAMS["seed"])
    first = jobs.claim("w")
    assert first is not None
    outcome = run_job(first, lambda task: iter(()), Workplace(jobs, data_dir, "w"))
    assert (first.id, outcome.status) == (damaged.id, "failed")
    assert "beyond 64 bits" in str(outcome.error)
    second = jobs.claim("w")
    assert second is not None
    assert second.id == fine.id


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_parameters": HUGE}, "num_parameters must be a whole number"),
        ({"num_parameters": float("inf")}, "num_parameters must be a whole number"),
        ({"episode_steps": 0}, "episode_steps must be a whole number from 1 to 4,096, got 0"),
        ({"episode_steps": -3}, "got -3"),
        ({"episode_steps": 10**15}, "got 1000000000000000"),
        ({"episode_steps": 1e300}, "got 1e+300"),
        ({"summary": {"held_out": {"kl": HUGE}}}, "summary.held_out must be plain JSON"),
        ({"summary": 3}, "summary must be"),
        ({"layout": None}, "layout must be an object"),
        ({"grid": {"page_size": 10**400}}, "grid.page_size must be a whole number"),
        ({"grid": {"keep_fractions": [10**400]}}, "grid.keep_fractions[0] must be a finite number"),
        ({"name": 7}, "name must be text"),
    ],
    ids=str,
)
def test_a_damaged_policy_is_listed_as_such_and_deleted(
    call: Call, data_dir: DataDir, change: dict[str, Any], said: str
) -> None:
    folder = data_dir.policies / "odd"
    shutil.copytree(SHIPPED_FOLDER, folder)
    record = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(record | change), "utf-8")
    library = call("all_policies")
    assert [one["name"] for one in library["policies"]] == ["default"]
    (damaged,) = library["damaged"]
    assert (damaged["name"], damaged["is_shipped"]) == ("odd", False)
    assert said in damaged["problem"]
    assert said in call("policy_details", name="odd")["refused"]
    assert [one["name"] for one in call("lab_home", kind="evaluate")["policies"]] == ["default"]
    assert call("delete_policy", name="odd") == {}
    assert not folder.exists()


def test_the_command_line_lists_and_deletes_a_damaged_policy(
    run: RunCommand, data_dir: DataDir
) -> None:
    folder = data_dir.policies / "odd"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{", "utf-8")
    assert "odd is damaged: " in run("policies", "list").out
    listed = json.loads(run("policies", "list", "--json").out)
    assert [one["name"] for one in listed["damaged"]] == ["odd"]
    assert "deleted odd, which was damaged" in run("policies", "delete", "odd").out
    assert not folder.exists()


@pytest.mark.parametrize("cursor", [HUGE, -HUGE, 2**53])
def test_numbers_that_no_page_sends_are_refused(
    services: Services, call: Call, cursor: int
) -> None:
    run = a_run(services)
    assert "cursor must be at most" in call("poll_run", run_id=run.id, cursor=cursor)["refused"]
