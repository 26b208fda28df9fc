"""``tasks``: its JSON, its table, what it refuses, and the same as a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sol_core.policy
from app.cli.commands.jobs import KINDS, STORED_KINDS
from app.cli.reports.accuracy import tasks_table
from app.host.paths import DataDir
from app.jobs.engines import ENGINES
from app.jobs.updates import JobTask
from app.pages.shared.job_views import JOB_KINDS
from sol_core.actions import ActionGrid, Budget
from sol_core.progress import WorkFinished, WorkProgress, WorkStopped
from sol_core.tasks.config import TasksConfig
from storage import TASKS_JOB, Store
from tests.app.command_line import RunCommand, one_line


def _accuracy(mean: float) -> dict[str, Any]:
    spend = {"keep": 0.51, "channels": 0.6, "bits": 8.0}
    return {
        "accuracy": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1},
        "margin": {"mean": mean / 10, "low": 0.0, "high": 0.1},
        "spend": spend,
        "bytes_per_token": 2.5e8,
    }


BUDGET: dict[str, Any] = {
    "requested": {"keep": 0.5, "channels": 0.6, "bits": 8.0},
    "methods": {
        "policy": _accuracy(0.65),
        "static": _accuracy(0.6),
        "paper": _accuracy(0.52),
    },
    "gain": {"mean": 0.05, "low": -0.01, "high": 0.11},
    "nll_gain": {"mean": 0.072, "low": 0.061, "high": 0.083},
    "margin_gain": {"mean": 0.005, "low": -0.001, "high": 0.011},
    "differences": {
        "static-paper": {
            "accuracy": {"mean": 0.08, "low": 0.03, "high": 0.14},
            "margin": {"mean": 0.02, "low": 0.01, "high": 0.04},
        }
    },
}
RESULT: dict[str, Any] = {
    "policy": "p",
    "model": "m",
    "grid": "default",
    "elapsed_s": float("nan"),
    "tasks": [
        {
            "task": "piqa",
            "questions": 20,
            "chance": 0.5,
            "dense": _accuracy(0.7),
            "budgets": [BUDGET],
        }
    ],
    "pooled": [
        {"tasks": ["piqa"], "questions": 20, "dense": _accuracy(0.7), "budgets": [BUDGET]},
    ],
    "summary": {
        "mean_gain": {"mean": 0.05, "low": -0.01, "high": 0.11},
        "mean_nll_gain": {"mean": 0.072, "low": 0.061, "high": 0.083},
        "pairs": 1,
        "better": 1,
        "above": 0,
        "below": 0,
        "best": {
            "task": "piqa",
            "requested": {"keep": 0.5, "channels": 0.6, "bits": 8.0},
            "gain": {"mean": 0.05, "low": -0.01, "high": 0.11},
        },
    },
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, data_dir: DataDir) -> list[dict[str, Any]]:
    """A stand-in engine and a stored policy; returns what it was given."""
    calls: list[dict[str, Any]] = []

    def run_tasks(
        model: Any,
        name: str,
        policy_folder: Path,
        config: TasksConfig,
        *,
        data_dir: Path,
        should_stop: Callable[[], bool] = lambda: False,
        partial: Path | None = None,
    ) -> Iterator[Any]:
        calls.append({"name": name, "folder": policy_folder, "config": config, "partial": partial})
        yield WorkProgress(0.5, "piqa: running the policy", 3.0)
        yield WorkStopped() if should_stop() else WorkFinished(RESULT)

    monkeypatch.setattr("sol_core.tasks.runner.run_tasks", run_tasks)
    monkeypatch.setattr("sol_core.models.loading.load_language_model", lambda name, **_: name)
    for module in ("models.tuning", "generation.warm_up"):
        monkeypatch.setattr(f"sol_core.{module}.tune", lambda *_: None)
    monkeypatch.setattr("sol_core.generation.warm_up.warm_up_kernels", lambda *_: None)
    info = SimpleNamespace(grid=ActionGrid())
    monkeypatch.setitem(vars(sol_core.policy), "read_policy_info", lambda folder: info)
    (data_dir.policies / "p").mkdir()
    (data_dir.policies / "p" / "config.json").write_text("{}")
    return calls


def test_tasks_print_exactly_the_result(
    run: RunCommand, measured: list[dict[str, Any]], data_dir: DataDir
) -> None:
    options = ["--tasks", "piqa, mmlu", "--limit", "20", "--budgets", "0.5,0.6,8", "--seed", "3"]
    done = run("tasks", "p", *options, "--json")
    assert done.status == 0
    assert json.loads(done.out) == RESULT | {"elapsed_s": None}
    (call,) = measured
    assert call["config"] == TasksConfig(("piqa", "mmlu"), 20, (Budget(0.5, 0.6, 8.0),), 3)
    run("tasks", "p", "--tasks", "recall", "--contexts", "1000,600", "--json")
    assert measured.pop()["config"] == TasksConfig(("recall",), contexts=(1000, 600))
    run("tasks", "p", "--baselines", "static,paper", "--json")
    assert measured[1]["config"] == TasksConfig(baselines=("static", "paper"))
    assert call["folder"] == data_dir.policies / "p"
    assert call["partial"].is_relative_to(data_dir.root)


def test_tasks_for_people(run: RunCommand, measured: list[Any]) -> None:
    done = run("tasks", "p")
    assert "piqa: 20 questions, chance 50.0, dense 70.0 (60.0 to 80.0)" in done.out
    assert "65.0 (55.0 to 75.0)" in done.out
    assert "+5.0 (-1.0 to +11.0)" in done.out
    assert "-8.0 (-14.0 to -3.0)  -0.020 (-0.040 to -0.010)" in done.out  # the paper's, against it
    assert "piqa: 20 questions together" in done.out
    assert "mean gain over static +5.0 (-1.0 to +11.0) points of accuracy over 1 pairs" in done.out
    assert "better on 1, interval above 0 on 0, below on 0" in done.out
    assert "NLL +0.072 (+0.061 to +0.083) nats per token" in done.out
    assert "running the policy" in done.err


def test_recall_for_people() -> None:
    def method(mean: float) -> dict[str, Any]:
        over = {"mean": mean - 0.7, "low": mean - 0.8, "high": mean - 0.6}
        wrote = {"mean": mean - 0.1, "low": mean - 0.2, "high": mean}
        return _accuracy(mean) | {"over_dense": over, "written": {"holds": wrote}}

    methods = {"policy": method(0.65), "static": method(0.6)}
    kinds = [
        {"kind": kind, "questions": 10, "dense": 0.7, "budgets": [{"policy": mean, "static": 0.5}]}
        for kind, mean in (("facts", 0.8), ("two_steps", 0.25))
    ]
    task = {"task": "recall_4000", "questions": 20, "chance": 0.2, "dense": method(0.7),
            "budgets": [BUDGET | {"methods": methods, "differences": {}}],
            "kinds": kinds}  # fmt: skip
    lines = tasks_table(RESULT | {"tasks": [task]}).splitlines()
    (dense,) = (line for line in lines if line.split()[:1] == ["dense"])
    assert dense.split() == ["dense", "60.0", "(50.0", "to", "70.0)", "70.0", "70.0"]
    policy = next(line for line in lines if "-5.0 (-15.0 to +5.0)" in line)
    assert policy.split()[-2:] == ["80.0", "25.0"]
    assert "55.0 (45.0 to 65.0)" in policy


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["nobody"], 1, "nobody"),
        (["p", "--tasks", "poetry"], 2, "allowed: arc_easy, hellaswag"),
        (["p", "--tasks", ","], 2, "no task"),
        (["p", "--limit", "1"], 2, "limit"),
        (["p", "--budgets", "0.5,0.6"], 2, "0.5,0.6"),
        (["p", "--budgets", "0.01,0.6,8"], 2, "attention kept = 0.01"),
        (["p", "--baselines", "dense"], 2, "unknown baseline 'dense'"),
        (["p", "--baselines", "paper"], 2, "static must be the first"),
        (["p", "--seed", "-1"], 2, "seed"),
        (["p", "--contexts", "long"], 2, "lengths in tokens, as in 1000,4000"),
        (["p", "--contexts", "1000,100"], 2, "contexts must be 1 to 8 different lengths"),
    ],
)
def test_tasks_refuse(
    run: RunCommand, measured: list[Any], arguments: list[str], status: int, named: str
) -> None:
    done = run("tasks", *arguments, "--json")
    assert named in one_line(done)
    assert done.status == status
    assert measured == []


def test_the_former_name_of_the_command_still_works(run: RunCommand, measured: list[Any]) -> None:
    done = run("benchmark", "p", "--tasks", "piqa", "--json")
    assert (done.status, json.loads(done.out)["policy"]) == (0, "p")
    assert "benchmark" not in run("--help").out


def test_every_kind_of_job_can_be_listed_by_kind(run: RunCommand, store: Store) -> None:
    assert {STORED_KINDS.get(kind, kind) for kind in KINDS} == set(JOB_KINDS) == set(ENGINES)
    store.jobs.create("benchmark", "a", "of the tasks", {})
    store.jobs.create("train", "a", "a training", {})
    for word in ("tasks", "benchmark"):
        listed = run("jobs", "list", "--kind", word).out
        assert "of the tasks" in listed
        assert "tasks  " in listed
        assert "a training" not in listed


@pytest.mark.parametrize("stops", [False, True])
def test_the_tasks_are_a_job(
    measured: list[dict[str, Any]], store: Store, data_dir: DataDir, stops: bool
) -> None:
    config = TasksConfig(("piqa",), 20)
    params = {"config": json.loads(json.dumps(config.to_dict())), "policy": "p", "model": "m"}
    job = store.jobs.create(TASKS_JOB, "a", "t", params)
    folder = data_dir.jobs / job.id
    folder.mkdir()
    task = JobTask(job, folder, data_dir, "float32", lambda: stops, lambda message: None)
    first, last = list(ENGINES[TASKS_JOB](task))
    assert first == WorkProgress(0.5, "piqa: running the policy", 3.0)
    assert last == (WorkStopped() if stops else WorkFinished(RESULT))
    (call,) = measured
    assert call["config"] == config
    assert call["partial"].is_relative_to(folder)
