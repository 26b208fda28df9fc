"""Damage of older releases or other hands, planted in a database or a policy folder."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from app.jobs.runner import JobResources, run_job
from app.pages.explore import HANDLERS as EXPLORE
from app.pages.history import HANDLERS as HISTORY
from app.pages.inspect import HANDLERS as INSPECT
from app.pages.lab.jobs import HANDLERS as LAB
from app.pages.policies import HANDLERS as POLICIES
from sol_core.actions import GRIDS
from sol_core.config import GenerationConfig
from sol_core.files.paths import SHIPPED_POLICY
from storage import TASKS_JOB
from tests.app.page_calls import ANNA, caller

HUGE = 10**30
CONFIG = GenerationConfig(grid=GRIDS["default"]).to_dict()
SEED = json.dumps(CONFIG | {"sampling": CONFIG["sampling"] | {"seed": HUGE}})
ENDLESS = json.dumps(CONFIG | {"episode_steps": float("inf")})


@pytest.fixture
def call(services):
    return caller(services, INSPECT, EXPLORE, HISTORY, LAB, POLICIES)


def plant(data_dir, table, row_id, **columns):
    """Put values into a row, past everything that checks them."""
    with closing(sqlite3.connect(data_dir.database)) as database:
        for name, value in columns.items():
            is_blob = isinstance(value, str) and name != "kind"
            data = value.encode() if is_blob else value
            database.execute(f"UPDATE {table} SET {name} = ? WHERE id = ?", (data, row_id))
        database.commit()


def a_run(services, prompt="A story"):
    made = services.store.runs.create(ANNA, prompt, "m", "static", CONFIG)
    services.store.runs.finish(made.id, "finished")
    return made


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({"config": SEED}, "damaged"),
        ({"config": ENDLESS}, "damaged"),
        ({"config": '{"schedule": '}, "damaged"),
        ({"config": "[1]"}, "damaged"),
        ({"config": json.dumps(CONFIG | {"schedule": 5})}, "damaged"),
        ({"prefill": '{"prompt_tokens": 3}'}, None),
        ({"summary": '{"spend": 3}'}, None),
        ({"title": b"\xff\xfe"}, None),
        ({"created_us": 2**62}, None),
        ({"kind": "dream"}, None),
    ],
    ids=str,
)
def test_a_damaged_run_is_listed_refused_in_words_and_deleted(
    services, call, data_dir, columns, status
):
    good, bad = a_run(services, "Good"), a_run(services, "Bad")
    plant(data_dir, "runs", bad.id, **columns)
    rows = {row["id"]: row for row in call("list_runs", query="", limit=10)["runs"]}
    assert rows[good.id]["status"] == "finished"
    assert rows[bad.id]["can_delete"]
    assert status in (None, rows[bad.id]["status"])
    polled = call("poll_run", run_id=bad.id, cursor=0)
    # It is refused, or can be read and not be started again.
    assert "refused" in polled or (status and polled["run"]["settings"] is None)
    assert bad.id not in [row["id"] for row in call("saved_runs")["runs"]] or status is None
    assert call("delete_run", run_id=bad.id) == {}
    assert [row["id"] for row in call("list_runs", query="", limit=10)["runs"]] == [good.id]


def test_a_damaged_token_is_refused_in_words(services, call, data_dir):
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
KINDS = ("train", "evaluate", TASKS_JOB)


@pytest.mark.parametrize("params", BAD_PARAMS.values(), ids=BAD_PARAMS)
def test_a_damaged_job_is_listed_as_such_and_deleted(services, call, data_dir, params):
    job = services.store.jobs.create("train", ANNA, "t", {}, worker="w")
    services.store.jobs.finish(job.id, "w", "failed")
    plant(data_dir, "jobs", job.id, params=params)
    (row,) = call("list_jobs", limit=10)["jobs"]
    assert (row["is_damaged"], row["status_label"], row["can_delete"]) == (True, "Damaged", True)
    view = call("poll_job", job_id=job.id, cursor=-1, sample_step=None)["job"]
    assert "damaged" in view["error"]
    assert "refused" in call("job_settings", kind="train", job_id=job.id)
    listed = call("policy_details", name="default")["evaluations"]
    assert [one["id"] for one in listed] == ["shipped"]
    assert call("delete_job", job_id=job.id) == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("params", ODD_PARAMS.values(), ids=ODD_PARAMS)
def test_odd_parameters_take_no_page_down(services, call, data_dir, kind, params):
    job = services.store.jobs.create(kind, ANNA, "t", {}, worker="w")
    services.store.jobs.finish(job.id, "w", "succeeded", {"odd": 3})
    plant(data_dir, "jobs", job.id, params=params, result='{"budgets": 5, "policy": {}}')
    assert call("list_jobs", limit=10)["jobs"][0]["id"] == job.id
    assert call("poll_job", job_id=job.id, cursor=-1, sample_step=None)["job"]["id"] == job.id
    assert "refused" in call("job_settings", kind=kind, job_id=job.id)
    assert call("policy_details", name="default")["name"] == "default"
    if kind != "train":
        answer = call("job_result", kind=kind, job_id=job.id)
        assert "view" in answer or "damaged" in answer["refused"]
    assert call("delete_job", job_id=job.id) == {}


def test_a_worker_fails_a_damaged_job_and_goes_on(services, data_dir):
    jobs = services.store.jobs
    damaged = jobs.create("train", ANNA, "bad", {})
    fine = jobs.create("train", ANNA, "good", {})
    plant(data_dir, "jobs", damaged.id, params=BAD_PARAMS["seed"])
    first = jobs.claim("w")
    outcome = run_job(first, lambda task: iter(()), JobResources(jobs, data_dir, "w"))
    assert (first.id, outcome.status) == (damaged.id, "failed")
    assert "beyond 64 bits" in str(outcome.error)
    second = jobs.claim("w")
    assert second.id == fine.id


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"episode_steps": 0}, "episode_steps must be a whole number from 1 to 4,096, got 0"),
        ({"summary": {"held_out": {"kl": HUGE}}}, "summary.held_out must be plain JSON"),
        ({"layout": None}, "layout must be an object"),
        ({"grid": {"keep_fractions": [10**400]}}, "grid.keep_fractions[0] must be a finite number"),
    ],
    ids=str,
)
def test_a_damaged_policy_is_listed_as_such_and_deleted(call, data_dir, change, said):
    folder = data_dir.policies / "odd"
    shutil.copytree(SHIPPED_POLICY, folder)
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
