"""What the Train and Evaluate pages may ask of Python: good values, bad ones, other visitors."""

import dataclasses
import json
from pathlib import Path

import pytest

import sol_core.policy.info
from app.pages.explore import HANDLERS as EXPLORE
from app.pages.lab.jobs import EVALUATE_FORM, TASKS_FORM, TRAIN_FORM
from app.pages.lab.jobs import HANDLERS as LAB
from app.pages.shared.job_calls import JOBS, METRICS_PER_POLL
from sol_core.accuracy.config import TasksConfig
from sol_core.errors import ConfigError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.fields import from_json
from sol_core.training.config import PRESETS, TrainConfig
from storage import TASKS_JOB
from tests.app.page_calls import ANNA, caller, sender
from tests.support import job_samples
from tests.support.tasks_samples import tasks_result

BUILTIN = {"kind": "builtin", "name": ""}


@pytest.fixture(autouse=True)
def _readable(monkeypatch):
    monkeypatch.setitem(vars(sol_core.policy.info), "read_policy_info", job_samples.read_stand_in)


@pytest.fixture
def call(services):
    return caller(services, EXPLORE, LAB)


def begin(call, name="mine", owner=ANNA, **values):
    about = {"name": name, "corpus": BUILTIN, "model": "/srv/secret.gguf"}  # no visitor names one
    answer = call("start_job", owner, kind="train", values=values, **about)
    assert "refused" not in answer, answer
    return str(answer["job_id"])


def evaluate(call, *policies, **values):
    names = list(policies)
    return call("start_job", kind="evaluate", values=values, policies=names, corpus=BUILTIN)


def poll(call, job_id, cursor=-1, step=None):
    return call("poll_job", job_id=job_id, cursor=cursor, sample_step=step)


def test_a_started_training_is_queued_with_its_whole_configuration(call, services):
    values = TRAIN_FORM.values_of(PRESETS["quick"]) | {"seed": 5}
    record = services.store.jobs.get(begin(call, " mine ", **values))
    assert (record.kind, record.status, record.owner) == ("train", "queued", ANNA)
    assert record.title == record.params["name"] == "mine"
    assert record.params["model"] == "fake-model"
    assert record.params["config"]["seed"] == 5
    assert record.params["config"]["grpo"]["updates"] == PRESETS["quick"].grpo.updates
    assert call("lab_home", kind="train")["newest_job"] == record.id


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../x"}, "policy's name"),
        ({"name": "Default"}, "is in use by a policy"),
        ({"corpus": {"kind": "upload", "name": "../../x"}}, "no uploaded file"),
        ({"corpus": {"kind": "hub", "name": "no id"}}, "owner/name"),
        ({"corpus": {"kind": "path", "name": "/nowhere/at/all"}}, "no file or folder"),
        ({"corpus": {"kind": "new"}}, "The corpus is"),
    ],
)
def test_a_training_that_cannot_be_is_refused(call, change, words):
    request = {"values": {}, "name": "x", "corpus": BUILTIN} | change
    assert words in call("start_job", kind="train", **request)["refused"]
    assert call("list_jobs", kind=None, limit=10)["jobs"] == []


def test_reports_and_samples_come_once_and_in_pieces(call, services):
    job_id = begin(call)
    count = METRICS_PER_POLL + 3
    rows = [job_samples.metric_row(step, count) for step in range(count)]
    services.store.jobs.append_metrics(job_id, rows)
    first = poll(call, job_id)
    assert first["more"]
    assert first["metrics"] == [row | {"seq": at} for at, row in enumerate(rows[:METRICS_PER_POLL])]
    rest = poll(call, job_id, first["cursor"])
    assert ([row["step"] for row in rest["metrics"]], rest["more"]) == ([500, 501, 502], False)
    assert poll(call, job_id, rest["cursor"])["metrics"] == []
    assert poll(call, job_id)["samples"] is None
    services.store.jobs.set_sample(job_id, job_samples.train_sample(4))
    assert [one["step"] for one in poll(call, job_id)["samples"]] == [4]
    assert poll(call, job_id, step=4)["samples"] is None
    services.store.jobs.set_sample(job_id, job_samples.train_sample(8))
    assert [one["step"] for one in poll(call, job_id, step=4)["samples"]] == [4, 8]


def test_pause_resume_cancel_and_delete(call, services):
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


def test_jobs_are_of_a_kind_and_counted(call, services):
    ids = [begin(call, f"p{number}") for number in range(3)]
    job_samples.store_policy(services.data_dir.policies, "mine")
    other = evaluate(call, "mine")["job_id"]
    answer = call("list_jobs", kind="evaluate", limit=10)
    assert [job["id"] for job in answer["jobs"]] == [other]
    newest = call("list_jobs", kind=None, limit=3)
    assert [job["id"] for job in newest["jobs"]] == [other, ids[2], ids[1]]
    assert newest["more"]
    assert not call("list_jobs", kind="train", limit=3)["more"]
    for bad in ({"kind": "x"}, {"limit": "1"}):
        refused = call("list_jobs", **({"kind": None, "limit": 10} | bad))
        assert "Reload the page" in refused["refused"]


def test_settings_are_cloned(call, services, tmp_path):
    (tmp_path / "a.txt").write_text("words")
    corpus = {"kind": "path", "name": str(tmp_path / "a.txt")}
    answer = call("start_job", kind="train", values={"seed": 9}, name="mine", corpus=corpus)
    settings = call("job_settings", kind="train", job_id=answer["job_id"])
    assert (settings["values"]["seed"], settings["corpus"]) == (9, corpus)
    foreign = services.store.jobs.create("train", ANNA, "x", {"config": {"from": "the future"}})
    assert "another release" in call("job_settings", kind="train", job_id=foreign.id)["refused"]
    job_samples.store_policy(services.data_dir.policies, "mine")
    values = EVALUATE_FORM.values_of(EvaluationConfig(texts=8))
    job_id = evaluate(call, "mine", **values)["job_id"]
    cloned = call("job_settings", kind="evaluate", job_id=job_id)
    assert (cloned["values"], cloned["policies"]) == (values, ["mine"])
    assert cloned["corpus"] == BUILTIN


def test_a_file_is_uploaded_used_and_deleted(call, services):
    data = b"some words of text"
    assert sender(services)("corpus", "my text.txt", data) == {"name": "my_text.txt"}
    corpus = {"kind": "upload", "name": "my_text.txt"}
    job_id = call("start_job", kind="train", values={}, name="x", corpus=corpus)["job_id"]
    source = services.store.jobs.get(job_id).params["config"]["corpus"]
    assert Path(source).read_bytes() == data
    assert Path(source).parent == services.data_dir.corpora / "uploads"
    assert call("job_settings", kind="train", job_id=job_id)["corpus"] == corpus
    assert call("delete_corpus", name="my_text.txt") == {"files": []}


def test_an_evaluation_is_queued_shown_and_exported(call, services):
    job_samples.store_policy(services.data_dir.policies, "mine")
    home = call("lab_home", kind="evaluate")
    assert [one["name"] for one in home["policies"]] == ["default", "mine"]
    assert "no policy 'other'" in evaluate(call, "other")["refused"]
    job_id = evaluate(call, "mine")["job_id"]
    record = services.store.jobs.get(job_id)
    assert record.params["policies"] == ["mine"]
    assert len(record.params["config"]["budgets"]) == 9
    services.store.jobs.claim("w")
    services.store.jobs.set_sample(job_id, {"texts": 3, "budgets": []})
    assert poll(call, job_id)["partial"] == {"texts": 3, "budgets": []}
    assert "no result to show" in call("job_result", kind="evaluate", job_id=job_id)["refused"]
    services.store.jobs.finish(job_id, "w", "succeeded", job_samples.evaluation_result(("mine",)))
    assert call("job_result", kind="evaluate", job_id=job_id)["view"]["about"]["policy"] == "mine"
    assert poll(call, job_id)["job"]["result"] is None  # it is large: asked for once, not polled
    file = call("export_result", kind="evaluate", job_id=job_id, form="csv")
    assert file["name"] == "evaluation-mine.csv"
    assert file["text"].startswith("requested_keep")
    bad = call("export_result", kind="evaluate", job_id=job_id, form="xls")
    assert "json, or csv" in bad["refused"]


def test_one_visitor_cannot_fill_the_queue(call):
    for number in range(JOBS.of_visitor):
        begin(call, f"p{number}")
    refused = call("start_job", kind="train", values={}, name="x", corpus=BUILTIN)["refused"]
    assert f"{JOBS.of_visitor} jobs" in refused


def test_a_name_in_use_is_refused_before_anything_is_queued(call, services):
    assert call("list_policies") == {"policies": ["default"]}
    job_samples.store_policy(services.data_dir.policies, "Mine")
    job_id = begin(call, "waiting")
    home = call("lab_home", kind="train")
    assert {"default", "mine", "waiting"} <= set(home["taken_names"])
    request = {"values": {}, "corpus": BUILTIN}
    for name in ("mine", " MINE ", "waiting"):
        said = call("start_job", kind="train", name=name, **request)["refused"]
        assert "is in use" in said
        assert repr(home["suggested_name"]) in said
    services.store.jobs.request_cancel(job_id)
    assert "job_id" in call("start_job", kind="train", name="waiting", **request)


def test_a_measurement_is_queued_and_its_settings_come_back(call, services):
    job_samples.store_policy(services.data_dir.policies, "mine")
    values = {"tasks": ["piqa"], "limit": 20, "budgets": "0.5,0.6,8\n0.3,0.5,7", "seed": 2}
    job_id = call("start_job", kind=TASKS_JOB, policies=["mine"], values=values)["job_id"]
    record = services.store.jobs.get(job_id)
    assert (record.kind, record.status, record.title) == (TASKS_JOB, "queued", "mine")
    config = from_json(TasksConfig, record.params["config"])
    assert config == TASKS_FORM.config_of(values)
    settings = call("job_settings", kind=TASKS_JOB, job_id=job_id)
    assert settings["policies"] == ["mine"]
    assert TASKS_FORM.config_of(settings["values"]) == config
    assert call("lab_home", kind=TASKS_JOB)["newest_job"] == job_id
    assert "no result to show" in call("job_result", kind=TASKS_JOB, job_id=job_id)["refused"]


def test_a_finished_measurement_is_shown(call, services):
    result = tasks_result("mine")
    params = {"config": {"shots": 5}, "policy": "mine", "model": "m"}
    job_id = job_samples.finished_job(services.store, TASKS_JOB, params, result)
    answer = call("job_result", kind=TASKS_JOB, job_id=job_id)
    file = call("export_result", kind=TASKS_JOB, job_id=job_id, form="json")
    assert json.loads(file["text"]) == result
    view = answer["view"]
    first, asked = view["tasks"][0], result["tasks"][0]
    assert first["label"] == "ARC easy"
    assert [point["mean"] for point in first["points"]["static"]] == [
        budget["methods"]["static"]["accuracy"]["mean"] for budget in asked["budgets"]
    ]
    for name in ("gain", "nll_gain"):
        assert first["rows"][2][name] == asked["budgets"][2][name]
    assert set(first["rows"][2]["methods"]) == {"policy", "static"}
    assert [one["label"] for one in view["pooled"]] == ["All questions", "ARC easy + PIQA"]
    assert [one["questions"] for one in view["pooled"]] == [1500, 1000]
    assert "another release" in call("job_settings", kind=TASKS_JOB, job_id=job_id)["refused"]


def test_a_result_of_an_earlier_release_is_shown(call, services):
    result = tasks_result("mine") | {"schema": 1}
    for task in result["tasks"]:
        for budget in task["budgets"]:
            del budget["nll_gain"]
            for method in budget["methods"].values():
                del method["bytes_per_token"]
    del result["pooled"]
    result["summary"] = {"mean_gain": 0.015}
    params = {"config": {}, "policy": "mine", "model": "m"}
    job_id = job_samples.finished_job(services.store, TASKS_JOB, params, result)
    view = call("job_result", kind=TASKS_JOB, job_id=job_id)["view"]
    assert view["verdict"] is None
    assert view["tasks"][0]["rows"][0]["nll_gain"] is None


FIELDS = {field["name"]: field for group in TRAIN_FORM.groups() for field in group["fields"]}


def leaves(kind, before=""):
    found = set()
    for item in dataclasses.fields(kind):
        value = getattr(TrainConfig(), item.name) if not before else None
        if dataclasses.is_dataclass(value):
            found |= leaves(type(value), f"{item.name}.")
        else:
            found.add(before + item.name)
    return found


def test_every_field_of_the_configuration_is_in_the_form_with_its_help():
    assert set(FIELDS) == leaves(TrainConfig) - {"corpus", "grid.mlp_split"}
    assert all(len(field["help"]) > 8 for field in FIELDS.values())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_way_to_the_page_and_back(name):
    values = TRAIN_FORM.values_of(PRESETS[name])
    assert TRAIN_FORM.config_of(values) == PRESETS[name]


def test_levels_are_text_and_whole_bits_stay_whole():
    values = {"grid.keep_fractions": " 0.2, 0.5 ;1,", "grid.bit_widths": "6, 16"}
    grid = TRAIN_FORM.config_of(values, corpus="x.txt").grid
    assert grid.keep_fractions == (0.2, 0.5, 1.0)
    assert grid.bit_widths == (6, 16)
    assert all(type(bits) is int for bits in grid.bit_widths)
    assert TRAIN_FORM.values_of(TrainConfig(grid=grid))["grid.keep_fractions"] == "0.2, 0.5, 1"


@pytest.mark.parametrize(
    ("form", "values", "words"),
    [
        (TRAIN_FORM, {"grpo.updates": -1}, "whole number from 0 to 10,000,000, got -1"),
        (TRAIN_FORM, {"grpo.entropy_bonus": None}, "a number from 0.0 to 10.0, got nothing"),
        (TRAIN_FORM, {"grpo.reward": "best"}, "grpo.reward must be one of kl, nll"),
        (TRAIN_FORM, {"grid.keep_fractions": "0.2, many"}, "numbers with commas"),
        (TRAIN_FORM, {"warm_start.texts": 0, "grpo.updates": 0}, "nothing to do"),
        (TRAIN_FORM, {"grpo.surprise": 1}, "the form has an unknown field 'grpo.surprise'"),
        (TRAIN_FORM, {"policy.concentration": "yes"}, "concentration must be true or false"),
        (TASKS_FORM, {"tasks": "piqa"}, "tasks must be a list"),
        (TASKS_FORM, {"budgets": "0.5"}, "a number per axis"),
    ],
)
def test_bad_values_are_named(form, values, words):
    with pytest.raises(ConfigError, match=words):
        form.config_of(values)
