"""What the Accuracy page may ask of Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sol_core.policy
from app.host.paths import DataDir
from app.pages.lab.job_forms import TASKS_FORM
from app.pages.lab.jobs import HANDLERS
from app.web.calls import server_functions
from app.web.services import Services, build_services
from sol_core.fields import from_json
from sol_core.tasks.config import TasksConfig
from storage import TASKS_JOB
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.job_samples import read_stand_in, store_policy
from tests.support.tasks_samples import tasks_result

Call = Callable[..., dict[str, Any]]
ANNA = "a" * 32


@pytest.fixture
def services(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setitem(vars(sol_core.policy), "read_policy_info", read_stand_in)
    store_policy(data_dir.policies, "mine")
    made = build_services(data_dir, "fake-model", fake_load, FakeEngine())
    yield made
    made.close()


@pytest.fixture
def call(services: Services) -> Call:
    by_name = {one.__name__: one for one in server_functions(services, HANDLERS)}

    def invoke(name: str, **request: Any) -> dict[str, Any]:
        answer = by_name[name]([{"owner": ANNA, **request}])
        return dict(json.loads(json.dumps(answer, allow_nan=False)))

    return invoke


def test_a_measurement_is_queued_and_its_settings_come_back(call: Call, services: Services) -> None:
    assert "mine" in [one["name"] for one in call("lab_home", kind=TASKS_JOB)["policies"]]
    values = {"tasks": ["piqa"], "limit": 20, "budgets": "0.5,0.6,8\n0.3,0.5,7", "seed": 2,
              "baselines": "static, paper", "contexts": "1000, 600"}  # fmt: skip
    job_id = call("start_job", kind=TASKS_JOB, policies=["mine"], values=values)["job_id"]
    record = services.store.jobs.get(job_id)
    assert (record.kind, record.status, record.title) == (TASKS_JOB, "queued", "mine")
    assert record.params["policy"] == "mine"
    config = from_json(TasksConfig, record.params["config"])
    assert config == TASKS_FORM.config_of(values)
    assert config.baselines == ("static", "paper")
    settings = call("job_settings", kind=TASKS_JOB, job_id=job_id)
    assert settings["policies"] == ["mine"]
    assert TASKS_FORM.config_of(settings["values"]) == config
    assert call("lab_home", kind=TASKS_JOB)["newest_job"] == job_id
    assert "no result to show" in call("job_result", kind=TASKS_JOB, job_id=job_id)["refused"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"policies": ["nobody"]}, "no policy 'nobody'"),
        ({"values": {"tasks": []}}, "no task"),
        ({"values": {"tasks": "piqa"}}, "tasks must be a list"),
        ({"values": {"limit": None}}, "limit must be a whole number"),
        ({"values": {"budgets": "0.5"}}, "a number per axis"),
        ({"values": {"budgets": 3}}, "budgets must be text"),
        ({"values": {"new": 1}}, "the form has an unknown field 'new'"),
        ({"values": None}, "Reload the page"),
    ],
)
def test_a_measurement_that_cannot_be_is_refused(
    call: Call, change: dict[str, Any], words: str
) -> None:
    request = {"values": {}, "policies": ["mine"]} | change
    assert words in call("start_job", kind=TASKS_JOB, **request)["refused"]
    assert call("list_jobs", kind=TASKS_JOB, group="all", limit=10)["jobs"] == []


def test_a_finished_measurement_is_shown(call: Call, services: Services) -> None:
    jobs = services.store.jobs
    result = tasks_result("mine")
    params = {"config": {"shots": 5}, "policy": "mine", "model": "m"}
    job = jobs.create(TASKS_JOB, ANNA, "mine", params)
    jobs.claim("w")
    jobs.finish(job.id, "w", "succeeded", result)
    answer = call("job_result", kind=TASKS_JOB, job_id=job.id)
    file = call("export_result", kind=TASKS_JOB, job_id=job.id, form="json")
    assert json.loads(file["text"]) == result
    view = answer["view"]
    assert view["summary"]["best"]["task"] == "ARC easy"
    first, asked = view["tasks"][0], result["tasks"][0]
    assert first["label"] == "ARC easy"
    assert [point["mean"] for point in first["points"]["static"]] == [
        budget["methods"]["static"]["accuracy"]["mean"] for budget in asked["budgets"]
    ]
    assert first["rows"][2]["gain"] == asked["budgets"][2]["gain"]
    assert first["rows"][2]["nll_gain"] == asked["budgets"][2]["nll_gain"]
    assert first["rows"][2]["margin_gain"] == asked["budgets"][2]["margin_gain"]
    assert set(first["rows"][2]["methods"]) == {"policy", "static", "paper"}
    assert [one["label"] for one in view["pooled"]] == ["All questions", "ARC easy + PIQA"]
    assert [one["questions"] for one in view["pooled"]] == [1500, 1000]
    assert first["rows"][2]["label"] == "40 % attention · 60 % MLP · 9 bits"
    assert "another release" in call("job_settings", kind=TASKS_JOB, job_id=job.id)["refused"]


def test_a_result_of_an_earlier_release_is_shown(call: Call, services: Services) -> None:
    result = tasks_result("mine") | {"schema": 1}
    for task in result["tasks"]:
        for budget in task["budgets"]:
            for name in ("nll_gain", "margin_gain", "differences"):
                del budget[name]
            for method in budget["methods"].values():
                for name in ("margin", "bytes_per_token"):
                    del method[name]
    del result["pooled"]
    del result["summary"]["mean_nll_gain"], result["summary"]["above"], result["summary"]["below"]
    result["summary"]["mean_gain"] = 0.015
    jobs = services.store.jobs
    job = jobs.create(TASKS_JOB, ANNA, "mine", {"config": {}, "policy": "mine", "model": "m"})
    jobs.claim("w")
    jobs.finish(job.id, "w", "succeeded", result)
    view = call("job_result", kind=TASKS_JOB, job_id=job.id)["view"]
    assert view["summary"]["mean_gain"] == {"mean": 0.015}
    assert view["tasks"][0]["rows"][0]["nll_gain"] is None


def test_the_forms_defaults_are_the_engines() -> None:
    values = TASKS_FORM.values_of(TasksConfig())
    assert TASKS_FORM.config_of({}) == TASKS_FORM.config_of(values) == TasksConfig()
    assert values["budgets"].startswith("80 % attention · 85 % MLP · 14.4 bits\n")
