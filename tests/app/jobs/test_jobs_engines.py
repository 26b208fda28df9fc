"""The real job functions on a stand-in engine: parameters in, updates and policies out."""

import json
from types import SimpleNamespace

import pytest

from app.host.errors import PolicyNotFoundError
from app.jobs.engines import ENGINES
from app.jobs.runner import JobTask
from sol_core.accuracy.config import TasksConfig
from sol_core.evaluation.config import EvaluationConfig
from sol_core.model_tables.tables import shipped_floors
from sol_core.progress import WorkFinished, WorkProgress, WorkSample, WorkStopped
from sol_core.training.config import preset
from storage import TASKS_JOB

CONFIG = preset("quick", seed=3)
PARAMS = {"config": json.loads(json.dumps(CONFIG.to_dict())), "model": "m", "name": "my policy"}
MADE = [WorkProgress(0.5, "grpo", 2.5, {"step": 1}), WorkSample({"type": "sample"})]


@pytest.fixture
def asked(monkeypatch):
    """How the model was asked for, and what the engine was given."""
    calls = []

    def load(name, **options):
        options.pop("on_progress")("reading the model", 0.5)
        calls.append({"name": name, **options})
        return SimpleNamespace(name=name, fingerprint=shipped_floors().fingerprint)

    def train(model, config, folder, **options):
        calls.append((config, folder, options["data_dir"]))
        yield from MADE
        if options["should_stop"]():
            yield WorkStopped()
            return
        (folder / "policy").mkdir()
        (folder / "policy" / "config.json").write_text("{}")
        yield WorkFinished({"folder": str(folder / "policy"), "summary": {"kl": 0.1}})

    def evaluate(model, folders, config, **options):
        calls.append((dict(folders), config, options["data_dir"], options["partial"].parent))
        yield from MADE
        yield WorkStopped() if options["should_stop"]() else WorkFinished({"schema": 1})

    def run_tasks(model, name, folder, config, **options):
        return evaluate(model, {name: folder}, config, **options)

    monkeypatch.setattr("sol_core.accuracy.runner.run_tasks", run_tasks)
    monkeypatch.setattr("sol_core.models.loading.load_language_model", load)
    monkeypatch.setattr("sol_core.generation.warm_up.warm_up_kernels", lambda *_: None)
    monkeypatch.setattr("sol_core.generation.warm_up.tune", lambda *_: None)
    monkeypatch.setattr("sol_core.training.trainer.train", train)
    monkeypatch.setattr("sol_core.evaluation.runner.evaluate", evaluate)
    return calls


@pytest.fixture
def make_task(store, data_dir):
    def make(kind, params, should_stop=lambda: False, say=lambda _: None):
        job = store.jobs.create(kind, "a", "t", params)
        folder = data_dir.jobs / job.id
        folder.mkdir()
        return JobTask(job, folder, data_dir, "float32", should_stop, say)

    return make


def test_training_becomes_updates_and_a_stored_policy(make_task, asked, data_dir):
    said = []
    chosen = {"dtype": "bfloat16", "device": "cpu"}
    task = make_task("train", PARAMS | chosen, say=said.append)
    stored = data_dir.policies / "my policy"
    result = {"policy": "my policy", "folder": str(stored), "summary": {"kl": 0.1}}
    assert list(ENGINES["train"](task)) == [*MADE, WorkFinished(result)]
    assert (stored / "config.json").exists()
    assert asked == [
        {"name": "m", "data_dir": data_dir.root, **chosen},
        (CONFIG, task.folder, data_dir.root),  # read back from JSON unchanged
    ]
    assert said[0] == "reading the model"


def test_training_stops_when_told(make_task, asked, data_dir):
    answers = iter([False, True])
    updates = list(ENGINES["train"](make_task("train", PARAMS, lambda: next(answers))))
    assert updates[-1] == WorkStopped()
    assert list(data_dir.policies.iterdir()) == []
    updates = list(ENGINES["train"](make_task("train", PARAMS, lambda: True)))
    assert updates == [WorkStopped()], "while the model was loaded"


@pytest.mark.parametrize(
    ("kind", "config", "policy"),
    [
        ("evaluate", EvaluationConfig(texts=4, baselines=("static", "random:3")), "policies"),
        (TASKS_JOB, TasksConfig(("piqa",), 20), "policy"),
    ],
)
def test_measurements_become_updates(make_task, asked, data_dir, kind, config, policy):
    folder = data_dir.policies / "p"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    params = {"config": json.loads(json.dumps(config.to_dict())), "model": "m"}
    named = {name: ([name] if policy == "policies" else name) for name in "pq"}
    task = make_task(kind, params | {policy: named["p"]})
    assert list(ENGINES[kind](task)) == [*MADE, WorkFinished({"schema": 1})]
    folders, read, root, partial = asked[-1]
    assert (folders, read, root) == ({"p": folder}, config, data_dir.root)
    assert partial.is_relative_to(task.folder), "a resumed job finds what it had done"
    stopped = make_task(kind, params | {policy: named["p"]}, lambda: True)
    assert list(ENGINES[kind](stopped))[-1] == WorkStopped()
    with pytest.raises(PolicyNotFoundError, match="no policy 'q'"):
        list(ENGINES[kind](make_task(kind, params | {policy: named["q"]})))
