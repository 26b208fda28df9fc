"""What the Train and Evaluate pages may ask of Python: good values, bad ones, other visitors."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sol_core.policy
from app.formats.plain_json import schedule_label
from app.host.paths import DataDir
from app.pages.explore.form import DEFAULT_FORM, config_from_form, default_form
from app.pages.explore.handlers import HANDLERS as EXPLORE
from app.pages.lab.job_forms import EVALUATE_FORM, TRAIN_FORM
from app.pages.lab.jobs import HANDLERS as LAB
from app.pages.shared.job_calls import JOBS, METRICS_PER_POLL
from app.web.calls import server_functions
from app.web.services import Services, build_services
from sol_core.errors import ConfigError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.training.config import PRESETS
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.job_samples import (
    evaluation_result,
    metric_row,
    read_stand_in,
    store_policy,
    train_sample,
)
from tests.support.tiny_policies import no_policy

ANNA, BEN = "a" * 32, "b" * 32
BUILTIN = {"kind": "builtin", "name": ""}
Call = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(sol_core.policy), "read_policy_info", read_stand_in)


@pytest.fixture
def call(services: Services) -> Call:
    return caller(services)


@pytest.fixture
def on_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setenv("SPACE_ID", "someone/something")
    place = DataDir(tmp_path / "space")
    place.prepare()
    made = build_services(place, "fake-model", fake_load, FakeEngine())
    yield made
    made.close()


def caller(services: Services) -> Call:
    functions = server_functions(services, {**EXPLORE, **LAB})
    by_name = {function.__name__: function for function in functions}

    def invoke(name: str, owner: str = ANNA, /, **request: Any) -> dict[str, Any]:
        answer = by_name[name]([{"owner": owner, **request}])
        return dict(json.loads(json.dumps(answer, allow_nan=False)))

    return invoke


def begin(call: Call, name: str = "mine", owner: str = ANNA, **values: Any) -> str:
    answer = call("start_job", owner, kind="train", values=values, name=name, corpus=BUILTIN)
    assert "refused" not in answer, answer
    return str(answer["job_id"])


def evaluate(call: Call, *policies: str, **values: Any) -> dict[str, Any]:
    names = list(policies)
    return call("start_job", kind="evaluate", values=values, policies=names, corpus=BUILTIN)


def poll(call: Call, job_id: str, cursor: int = -1, step: int | None = None) -> dict[str, Any]:
    return call("poll_job", job_id=job_id, cursor=cursor, sample_step=step)


def test_a_started_training_is_queued_with_its_whole_configuration(
    call: Call, services: Services
) -> None:
    values = TRAIN_FORM.values_of(PRESETS["quick"]) | {"seed": 5}
    record = services.store.jobs.get(begin(call, " mine ", **values))
    assert (record.kind, record.status, record.owner) == ("train", "queued", ANNA)
    assert record.title == record.params["name"] == "mine"
    assert record.params["model"] == "fake-model"
    assert record.params["config"]["seed"] == 5
    assert record.params["config"]["grpo"]["updates"] == PRESETS["quick"].grpo.updates
    assert call("lab_home", kind="train")["newest_job"] == record.id


def test_a_visitor_cannot_name_a_model_or_a_file(call: Call, services: Services) -> None:
    path = "/srv/secret.gguf"
    answer = call("start_job", kind="train", values={}, name="mine", corpus=BUILTIN, model=path)
    assert services.store.jobs.get(str(answer["job_id"])).params["model"] == "fake-model"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "policy's name"),
        ({"name": "../x"}, "policy's name"),
        ({"name": "x" * 61}, "policy's name"),
        ({"name": "Default"}, "belongs to the policy that came"),
        ({"values": {"grpo.updates": -1}}, "grpo.updates"),
        ({"corpus": {"kind": "upload", "name": "a.txt"}}, "no uploaded file"),
        ({"corpus": {"kind": "upload", "name": "../../x"}}, "no uploaded file"),
        ({"corpus": {"kind": "hub", "name": "no id"}}, "owner/name"),
        ({"corpus": {"kind": "path", "name": "/nowhere/at/all"}}, "no file or folder"),
        ({"corpus": {"kind": "path", "name": "relative.txt"}}, "full path"),
        ({"corpus": {"kind": "new"}}, "The corpus is"),
        ({"corpus": {"kind": "hub", "name": 3}}, "named by text"),
        ({"corpus": None}, "Reload the page"),
    ],
)
def test_a_training_that_cannot_be_is_refused(
    call: Call, change: dict[str, Any], words: str
) -> None:
    request = {"values": {}, "name": "x", "corpus": BUILTIN} | change
    assert words in call("start_job", kind="train", **request)["refused"]
    assert call("list_jobs", kind=None, group="all", limit=10)["jobs"] == []


def test_the_estimate_says_what_is_wrong(call: Call) -> None:
    assert call("estimate_job", kind="train", num_policies=0, values={})["seconds"] > 60
    bad = call("estimate_job", kind="train", num_policies=0, values={"grpo.updates": None})
    wanted = "a whole number from 0 to 10,000,000"
    assert bad == {"problem": f"grpo.updates must be {wanted}, got nothing"}


def test_free_names_are_suggested(call: Call, services: Services) -> None:
    store_policy(services.data_dir.policies, "policy-1")
    assert call("lab_home", kind="train")["suggested_name"] == "policy-2"
    begin(call, "policy-2")
    assert call("lab_home", kind="train")["suggested_name"] == "policy-3"


def test_reports_come_once_and_in_pieces(call: Call, services: Services) -> None:
    job_id = begin(call)
    count = METRICS_PER_POLL + 3
    rows = [metric_row(step, count) for step in range(count)]
    services.store.jobs.append_metrics(job_id, rows)
    first = poll(call, job_id)
    assert (len(first["metrics"]), first["more"]) == (METRICS_PER_POLL, True)
    assert first["metrics"] == [row | {"seq": at} for at, row in enumerate(rows[:METRICS_PER_POLL])]
    rest = poll(call, job_id, first["cursor"])
    assert ([row["step"] for row in rest["metrics"]], rest["more"]) == ([500, 501, 502], False)
    assert poll(call, job_id, rest["cursor"])["metrics"] == []
    assert poll(call, job_id, rest["cursor"])["cursor"] == rest["cursor"]


def test_samples_come_when_there_are_new_ones(call: Call, services: Services) -> None:
    job_id = begin(call)
    assert poll(call, job_id)["samples"] is None
    services.store.jobs.set_sample(job_id, train_sample(4))
    assert [one["step"] for one in poll(call, job_id)["samples"]] == [4]
    assert poll(call, job_id, step=4)["samples"] is None
    services.store.jobs.set_sample(job_id, train_sample(8))
    assert [one["step"] for one in poll(call, job_id, step=4)["samples"]] == [4, 8]


def test_pause_resume_cancel_and_delete(call: Call, services: Services) -> None:
    jobs = services.store.jobs
    job_id = begin(call)
    jobs.claim("w")
    jobs.heartbeat(job_id, "w", 0.25, "grpo", 90.0)
    job = poll(call, job_id)["job"]
    assert (job["progress"], job["eta_s"], job["live"]) == (0.25, 90, True)
    assert (job["can_pause"], job["can_resume"], job["can_delete"]) == (True, False, False)
    assert "Cancel it first" in call("delete_job", job_id=job_id)["refused"]
    assert call("pause_job", job_id=job_id) == {}
    job = poll(call, job_id)["job"]
    assert job["status_label"] == "Pausing"
    assert (job["can_pause"], job["can_resume"], job["can_cancel"]) == (False, True, True)
    jobs.finish(job_id, "w", "paused")
    assert "Resume" in poll(call, job_id)["job"]["advice"]
    assert call("resume_job", job_id=job_id) == {}
    assert jobs.get(job_id).status == "queued"
    jobs.claim("w")
    call("cancel_job", job_id=job_id)
    assert poll(call, job_id)["job"]["status_label"] == "Cancelling"
    jobs.finish(job_id, "w", "cancelled")
    (services.data_dir.jobs / job_id).mkdir()
    log = services.data_dir.logs / f"job-{job_id}.log"
    log.write_text("what was logged", "utf-8")
    assert call("delete_job", job_id=job_id) == {}
    assert not (services.data_dir.jobs / job_id).exists()
    assert not log.exists()
    assert "does not exist" in poll(call, job_id)["refused"]


def test_a_failure_is_shown_whole_with_what_to_do(call: Call, services: Services) -> None:
    job_id = begin(call)
    services.store.jobs.claim("w")
    services.store.jobs.set_log_file(job_id, "/data/logs/x.log")
    error = "line one\n" + "x" * 5000
    services.store.jobs.finish(job_id, "w", "failed", None, error)
    job = poll(call, job_id)["job"]
    assert job["error"] == error
    assert "clone" in job["advice"]
    assert job["log_file"] == "/data/logs/x.log"


def test_jobs_are_filtered_and_paged(call: Call, services: Services) -> None:
    ids = [begin(call, f"p{number}") for number in range(3)]
    services.store.jobs.claim("w")
    services.store.jobs.finish(ids[0], "w", "failed", None, "no")
    store_policy(services.data_dir.policies, "mine")
    other = evaluate(call, "mine")["job_id"]

    def listed(**request: Any) -> list[str]:
        answer = call("list_jobs", **({"kind": None, "group": "all", "limit": 10} | request))
        return [job["id"] for job in answer["jobs"]]

    assert listed() == [other, *ids[::-1]]
    assert listed(kind="evaluate") == [other]
    assert listed(group="stopped") == [ids[0]]
    assert listed(group="active", kind="train") == [ids[2], ids[1]]
    assert listed(group="finished") == []
    page = call("list_jobs", kind=None, group="all", limit=3)
    assert page["next"] == ids[1]
    assert listed(before=ids[1]) == [ids[0]]
    for bad in ({"kind": "x"}, {"group": "x"}, {"limit": "1"}, {"before": 3}):
        refused = call("list_jobs", **({"kind": None, "group": "all", "limit": 10} | bad))
        assert "Reload the page" in refused["refused"]


def test_settings_are_cloned(call: Call, services: Services, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("words")
    answer = call(
        "start_job",
        kind="train",
        values={"seed": 9},
        name="mine",
        corpus={"kind": "path", "name": str(text)},
    )
    settings = call("job_settings", kind="train", job_id=answer["job_id"])
    assert settings["values"]["seed"] == 9
    assert settings["corpus"] == {"kind": "path", "name": str(text)}
    foreign = services.store.jobs.create("train", ANNA, "x", {"config": {"from": "the future"}})
    assert "another release" in call("job_settings", kind="train", job_id=foreign.id)["refused"]
    store_policy(services.data_dir.policies, "mine")
    values = EVALUATE_FORM.values_of(EvaluationConfig(texts=8))
    job_id = evaluate(call, "mine", **values)["job_id"]
    cloned = call("job_settings", kind="evaluate", job_id=job_id)
    assert (cloned["values"], cloned["policies"]) == (values, ["mine"])
    assert cloned["corpus"] == BUILTIN
    assert "another release" in call("job_settings", kind="evaluate", job_id=foreign.id)["refused"]


def test_uploads_go_through_calls(call: Call, services: Services) -> None:
    data = b"some words of text"
    about = {"name": "my text.txt", "size": len(data)}
    upload = call("begin_upload", **about)["upload_id"]
    for offset in range(0, len(data), 10):
        piece = base64.b64encode(data[offset : offset + 10]).decode()
        answer = call("upload_piece", upload_id=upload, offset=offset, data=piece, **about)
    assert answer == {"have": len(data), "name": "my_text.txt"}
    corpus = {"kind": "upload", "name": "my_text.txt"}
    job_id = call("start_job", kind="train", values={}, name="x", corpus=corpus)["job_id"]
    source = services.store.jobs.get(job_id).params["config"]["corpus"]
    assert Path(source).read_bytes() == data
    assert Path(source).parent == services.data_dir.corpora / "uploads"
    assert call("job_settings", kind="train", job_id=job_id)["corpus"] == corpus
    bad = call("upload_piece", upload_id=upload, offset=0, data="§", **about)
    assert "base64" in bad["refused"]
    assert call("delete_corpus", name="my_text.txt") == {"files": []}


def test_an_evaluation_is_queued_shown_and_exported(call: Call, services: Services) -> None:
    store_policy(services.data_dir.policies, "mine")
    home = call("lab_home", kind="evaluate")
    assert [one["name"] for one in home["policies"]] == ["default", "mine"]
    refused = evaluate(call, "other")["refused"]
    assert "no policy 'other'" in refused
    job_id = evaluate(call, "mine")["job_id"]
    record = services.store.jobs.get(job_id)
    assert record.params["policies"] == ["mine"]
    assert len(record.params["config"]["budgets"]) == 9
    services.store.jobs.claim("w")
    services.store.jobs.set_sample(job_id, {"texts": 3, "budgets": []})
    assert poll(call, job_id)["partial"] == {"texts": 3, "budgets": []}
    assert "no result to show" in call("job_result", kind="evaluate", job_id=job_id)["refused"]
    services.store.jobs.finish(job_id, "w", "succeeded", evaluation_result(("mine",)))
    assert call("job_result", kind="evaluate", job_id=job_id)["view"]["about"]["policy"] == "mine"
    assert poll(call, job_id)["job"]["result"] is None  # it is large: asked for once, not polled
    file = call("export_result", kind="evaluate", job_id=job_id, form="csv")
    assert file["name"] == "evaluation-mine.csv"
    assert file["text"].startswith("requested_keep")
    assert (
        json.loads(call("export_result", kind="evaluate", job_id=job_id, form="json")["text"])[
            "schema"
        ]
        == 1
    )
    assert (
        "json, or csv"
        in call("export_result", kind="evaluate", job_id=job_id, form="xls")["refused"]
    )


@pytest.mark.timeout(20)
def test_a_pipe_as_corpus_is_refused_in_the_form(call: Call, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    pipe = {"kind": "path", "name": str(tmp_path / "pipe.txt")}
    for answer in (
        call("start_job", kind="train", values={}, name="x", corpus=pipe),
        call("start_job", kind="evaluate", values={}, policies=["default"], corpus=pipe),
    ):
        assert "is a pipe, a device or a socket" in answer["refused"]


def test_one_visitor_cannot_fill_the_queue(call: Call) -> None:
    for number in range(JOBS.of_visitor):
        begin(call, f"p{number}")
    refused = call("start_job", kind="train", values={}, name="x", corpus=BUILTIN)["refused"]
    assert f"{JOBS.of_visitor} jobs" in refused


def test_a_space_starts_no_jobs_and_takes_no_files(on_space: Services) -> None:
    call = caller(on_space)
    assert not call("lab_home", kind="train")["jobs_allowed"]
    for name, request in (
        ("start_job", {"kind": "train", "values": {}, "name": "x", "corpus": BUILTIN}),
        ("start_job", {"kind": "evaluate", "values": {}, "policies": ["x"], "corpus": BUILTIN}),
        ("begin_upload", {"name": "a.txt", "size": 3}),
    ):
        assert "shared server" in call(name, **request)["refused"]
    assert call("lab_home", kind="evaluate")["refusal"] == call("lab_home", kind="train")["refusal"]


def test_a_space_that_allows_jobs_keeps_visitors_apart(
    on_space: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    object.__setattr__(on_space, "jobs_allowed", True)
    call = caller(on_space)
    job_id = begin(call)
    assert call("list_jobs", BEN, kind=None, group="all", limit=9)["jobs"] == []
    for name in ("cancel_job", "delete_job", "job_settings"):
        assert "does not exist" in call(name, BEN, kind="train", job_id=job_id)["refused"]
    assert on_space.store.jobs.get(job_id).status == "queued"
    assert call("lab_home", BEN, kind="train")["newest_job"] is None
    secret = {"kind": "path", "name": str(tmp_path)}
    assert (
        "The corpus is"
        in call("start_job", kind="train", values={}, name="x", corpus=secret)["refused"]
    )
    about = {"name": "a.txt", "size": 1}
    upload = call("begin_upload", **about)["upload_id"]
    call("upload_piece", upload_id=upload, offset=0, data="eA==", **about)
    assert call("list_corpora")["files"] == [{"name": "a.txt", "bytes": 1}]
    assert call("list_corpora", BEN)["files"] == []


def test_explore_offers_stored_policies(call: Call, services: Services) -> None:
    store_policy(services.data_dir.policies, "mine")
    names = ["default", "mine"]
    assert call("list_policies") == {"policies": names}
    page = {"schedule": "static", "share": 89, "bits": 16, "max_new_tokens": 64}
    assert default_form(64) == DEFAULT_FORM | page  # at equal bytes no policy beats static
    with pytest.raises(ConfigError, match="Choose a policy"):
        config_from_form({"schedule": "policy: "}, no_policy)


def test_a_policys_schedule_is_called_by_its_name() -> None:
    assert schedule_label("policy", {"schedule": {"policy": "mine"}}) == "Policy mine"
    assert schedule_label("policy", {"schedule": {"policy": "/a/b/mine/"}}) == "Policy mine"
    assert schedule_label("policy", {}) == "Policy"
    assert schedule_label("static", {}) == "Static"
    assert schedule_label("new", {}) == "new"


def test_a_name_in_use_is_refused_before_anything_is_queued(call: Call, services: Services) -> None:
    store_policy(services.data_dir.policies, "Mine")
    job_id = begin(call, "waiting")
    home = call("lab_home", kind="train")
    assert {"default", "mine", "waiting"} <= set(home["taken_names"])
    request = {"values": {}, "corpus": BUILTIN}
    for name in ("mine", " MINE ", "waiting"):
        said = call("start_job", kind="train", name=name, **request)["refused"]
        assert "is in use" in said
        assert repr(home["suggested_name"]) in said
    services.store.jobs.request_cancel(job_id)
    assert services.store.jobs.get(job_id).status == "cancelled"
    assert "job_id" in call("start_job", kind="train", name="waiting", **request)
