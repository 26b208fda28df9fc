"""``evaluate`` and ``tasks``: their JSON, files and tables, and what they refuse."""

import csv
import dataclasses
import json
import re
from types import SimpleNamespace

import pytest

import sol_core.policy.info
from app.cli.commands.jobs import KINDS, STORED_KINDS
from app.jobs.engines import ENGINES
from app.pages.shared.job_calls import JOB_KINDS
from sol_core.accuracy.config import TasksConfig
from sol_core.actions import ActionGrid, Budget
from sol_core.progress import WorkFinished, WorkProgress
from tests.app.command_line import one_line
from tests.support.tasks_samples import tasks_result

RESULT = tasks_result("p") | {"elapsed_s": float("nan")}


def result_of(name, budgets):
    """A small result of the contract's shape."""
    spend = {"keep": 0.5, "channels": 0.6, "bits": 8.0}
    scores = {"nll": 2.5, "kl": 0.25, "perplexity": 2.0, "net_keep_rate": 0.5, "spend": spend}
    scores |= {"bytes_share": 0.61, "bytes_per_token": 61e6}
    ends = {"gain": 0.25, "low": 0.1, "high": 0.4}
    gain = {f"{loss}_{end}": value for loss in ("nll", "kl") for end, value in ends.items()}
    gain |= {"nll_verdict": "better", "kl_verdict": "no difference shown"}
    made = [
        {
            "requested": spend
            if budget.bytes_share is None
            else {"share": budget.bytes_share, "bits": budget.bit_width},
            "adherence": {"gap": {"share": 0.01}, "episode": {"share": 0.02}},
            "methods": {"static": scores, "dense": scores, "policy": scores | {"nll": 2.25}},
            "paired": {"static": gain},
        }
        for budget in budgets
    ]
    return {"schema": 1, "policy": name, "elapsed_s": float("nan"), "budgets": made}


@pytest.fixture
def evaluated(monkeypatch, data_dir, tmp_path):
    """A stand-in evaluation, two stored policies and a text; returns what it was given."""
    calls = []

    def evaluate(model, policy_folders, config, **options):
        calls.append({"folders": dict(policy_folders), "config": config, **options})
        yield WorkProgress(0.5, "rollouts", 3.0)
        name = next(iter(policy_folders))
        yield WorkFinished(result_of(name, config.budgets))

    def run_tasks(model, name, folder, config, **options):
        calls.append({"folder": folder, "config": config, **options})
        yield WorkProgress(0.5, "piqa: running the policy", 3.0)
        yield WorkFinished(RESULT)

    monkeypatch.setattr("sol_core.evaluation.runner.evaluate", evaluate)
    monkeypatch.setattr("sol_core.accuracy.runner.run_tasks", run_tasks)
    monkeypatch.setattr("sol_core.generation.warm_up.load_warm", lambda name, **_: name)
    monkeypatch.setattr("sol_core.evaluation.measure_tables.ensure_tables", lambda *_: None)
    info = SimpleNamespace(grid=ActionGrid())
    monkeypatch.setitem(vars(sol_core.policy.info), "read_policy_info", lambda folder: info)
    monkeypatch.setattr("sol_core.policy.files.locate.read_policy_info", lambda folder: info)
    for folder in (data_dir.policies / "p", tmp_path / "mine"):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    (tmp_path / "text.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    return calls


def test_evaluate_prints_exactly_the_result(run, evaluated, data_dir, tmp_path):
    done = run(
        *["evaluate", "p", "--corpus", "text.txt", "--budgets", "0.5,0.6,8;0.3,0.5,7"],
        *["--baselines", "static,random:10", "--texts", "128", "--context", "256"],
        *["--steps", "16", "--seed", "3", "--json", "--out", "results"],
    )
    assert (done.status, done.err) == (0, " 50 %  rollouts, about 3 s left\n")
    result = json.loads(done.out)
    assert result["elapsed_s"] is None, "NaN is no JSON"
    (call,) = evaluated
    assert call["folders"] == {"p": data_dir.policies / "p"}
    assert call["data_dir"] == data_dir.root
    config = call["config"]
    assert config.budgets == (Budget(0.5, 0.6, 8.0), Budget(0.3, 0.5, 7.0))
    assert config.baselines == ("static", "random:10")
    assert (config.texts, config.context, config.steps, config.seed) == (128, 256, 16, 3)
    assert config.corpus == str(tmp_path / "text.txt")
    assert json.loads((tmp_path / "results" / "result.json").read_text()) == result
    with (tmp_path / "results" / "result.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["method"] for row in rows) == sorted(["policy", "dense", "static"] * 2)


def test_shares_after_several_contexts_are_an_evaluation_each(
    run, evaluated, tmp_path, monkeypatch
):
    def lowest(context):
        return 0.6 if context < 1000 else 0.3

    mixes = SimpleNamespace(lowest_share=lowest)
    monkeypatch.setattr("sol_core.budgets.mixes.mix_table", lambda *_: mixes)
    asked = ["evaluate", "./mine", "--budgets", "50%,65%", "--out", "results"]
    asked += ["--context", "256, 2048"]
    done = run(*asked, "--json")
    assert done.status == 0
    assert "after 256 tokens at least 60 % of the bytes are read; left out there: 50 %" in done.err
    assert [len(one["budgets"]) for one in json.loads(done.out)] == [1, 2]
    for call, context in zip(tuple(evaluated), (256, 2048), strict=True):
        assert call["config"].context == context
        assert call["folders"] == {"mine": tmp_path / "mine"}
        assert Budget.share(0.65) in call["config"].budgets
        folder = tmp_path / "results" / f"context-{context}"
        assert run("evaluate", "--config", str(folder / "evaluation.toml")).status == 0
        assert evaluated.pop()["config"] == call["config"]
    text = run(*asked).out
    assert text.count("budget  65 % compute") == 2
    assert re.search(r"static .* 61\.0 % +61\.0 .* 0\.2500 less \(0\.1000 to 0\.4000\)", text)
    assert "no difference shown (0.2500 closer)" in text


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["evaluate", "nobody"], 1, "no policy 'nobody'"),
        (["evaluate", "p", "--budgets", "0.5,0.6,3"], 2, "bits = 3 is outside"),
        (["evaluate", "p", "--budgets", "50%;0.5,0.6,8"], 2, "in two runs"),
        (["evaluate", "p", "--context", "256,256"], 2, "twice"),
        (["evaluate", "p", "--corpus", "none.txt"], 1, "no such file"),
        (["evaluate", "p", "--out", "text.txt"], 1, "is a file"),
        (["evaluate"], 2, "POLICY"),
        (["tasks", "nobody"], 1, "nobody"),
        (["tasks", "p", "--tasks", "poetry"], 2, "it has arc_easy, hellaswag"),
        (["tasks", "p", "--budgets", "0.01,0.6,8"], 2, "attention kept = 0.01"),
    ],
)
def test_what_cannot_be_measured_is_refused(run, evaluated, arguments, status, named):
    done = run(*arguments, "--json")
    assert named in one_line(done)
    assert done.status == status
    assert evaluated == []


def test_a_file_says_everything_and_options_come_on_top(run, evaluated, tmp_path):
    first = ["evaluate", "p", "--corpus", "text.txt", "--budgets", "0.5,0.6,8;0.3,0.5,7"]
    rest = ("--windows", "3", "--schedule", "policy:default", "--out", "a")
    run(*first, "--baselines", "static,emc", *rest)
    text = (tmp_path / "a" / "evaluation.toml").read_text()
    assert re.search(r"# written by version .*; Python .*, torch \d", text)
    assert "fingerprint" in text
    run("evaluate", "--config", "a/evaluation.toml", "--out", "b")
    assert (tmp_path / "b" / "evaluation.toml").read_text() == text
    run("evaluate", "--config", "a/evaluation.toml", "--seed", "5", "--budgets", "0.9,0.9,9")
    one, again, changed = (call["config"] for call in evaluated)
    assert one == again
    assert changed == dataclasses.replace(one, seed=5, budgets=(Budget(0.9, 0.9, 9.0),))
    assert all(list(call["folders"]) == ["p", "default"] for call in evaluated)


def test_off_a_terminal_progress_is_a_line_for_every_tenth(run, evaluated, monkeypatch):
    def evaluate(_, policies, config, **__):
        for part in range(1, 201):
            yield WorkProgress(part / 200, f"text {part} of 200", None)
        yield WorkFinished(result_of("p", config.budgets))

    monkeypatch.setattr("sol_core.evaluation.runner.evaluate", evaluate)
    lines = run("evaluate", "p").err.splitlines()
    assert lines[:2] == ["  0 %  text 1 of 200", " 10 %  text 20 of 200"]
    assert lines[-1] == "100 %  text 200 of 200"
    assert len(lines) == 11


def test_tasks_print_exactly_the_result(run, evaluated, data_dir):
    options = ["--tasks", "piqa, mmlu", "--limit", "20", "--budgets", "0.5,0.6,8", "--seed", "3"]
    done = run("tasks", "p", *options, "--json")
    assert done.status == 0
    assert json.loads(done.out) == RESULT | {"elapsed_s": None}
    (call,) = evaluated
    assert call["config"] == TasksConfig(("piqa", "mmlu"), 20, (Budget(0.5, 0.6, 8.0),), 3)
    assert call["folder"] == data_dir.policies / "p"
    assert call["partial"].is_relative_to(data_dir.root)


def test_tasks_for_people(run, evaluated):
    done = run("tasks", "p")
    assert "piqa: 500 questions, chance 50.0, dense 68.0 (64.0 to 72.0)" in done.out
    assert "arc_easy, piqa: 1000 questions together" in done.out
    assert "+1.2 (-0.8 to +3.2)  +0.048 (+0.018 to +0.078)" in done.out
    assert "running the policy" in done.err


def test_the_former_name_of_the_command_still_works(run, evaluated):
    done = run("benchmark", "p", "--tasks", "piqa", "--json")
    assert (done.status, json.loads(done.out)["policy"]) == (0, "p")
    assert "benchmark" not in run("--help").out


def test_every_kind_of_job_can_be_listed_by_kind(run, store):
    assert {STORED_KINDS.get(kind, kind) for kind in KINDS} == set(JOB_KINDS) == set(ENGINES)
    store.jobs.create("benchmark", "a", "of the tasks", {})
    store.jobs.create("train", "a", "a training", {})
    for word in ("tasks", "benchmark"):
        listed = run("jobs", "list", "--kind", word).out
        assert "of the tasks" in listed
        assert "tasks  " in listed
        assert "a training" not in listed
