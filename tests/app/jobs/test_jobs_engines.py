"""The real job functions on a stand-in engine: parameters in, updates and policies out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from app.host.errors import AppError, PolicyNotFoundError
from app.host.paths import DataDir
from app.jobs.engines import ENGINES
from app.jobs.updates import JobTask
from sol_core.errors import ConfigError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.generation.warm_up import COMPILING
from sol_core.progress import (
    WorkCheckpoint,
    WorkEvent,
    WorkFinished,
    WorkProgress,
    WorkSample,
    WorkStopped,
)
from sol_core.training.config import TrainConfig, preset
from sol_core.training.ranks import Ranks
from storage import Store
from tests.app.waiting import wait_until

MakeTask = Callable[..., JobTask]
CONFIG = preset("quick", seed=3)
ROW = {"step": 1, "phase": "grpo", "elapsed_s": 2.0, "metrics": {"kl": 0.1}}
PARAMS = {"config": json.loads(json.dumps(CONFIG.to_dict())), "model": "m", "name": "my policy"}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How the model was asked for."""
    calls: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> Any:
        options.pop("on_progress")("reading the model", 0.5)
        calls.append({"name": name, **options})
        return SimpleNamespace(name=name)

    monkeypatch.setattr("sol_core.models.loading.load_language_model", load)
    monkeypatch.setattr("sol_core.generation.warm_up.warm_up_kernels", lambda *_: None)
    monkeypatch.setattr("sol_core.generation.warm_up.tune", lambda *_: None)
    return calls


@pytest.fixture
def make_task(store: Store, data_dir: DataDir, said: list[str]) -> MakeTask:
    def make(
        kind: str, params: dict[str, Any], should_stop: Callable[[], bool] = lambda: False
    ) -> JobTask:
        job = store.jobs.create(kind, "a", "t", params)  # type: ignore[arg-type]  # one of them
        folder = data_dir.jobs / job.id
        folder.mkdir()
        return JobTask(job, folder, data_dir, "float32", should_stop, said.append)

    return make


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, Path, Path]]:
    """A trainer that finishes at once, or stops when it is told to."""
    calls: list[tuple[TrainConfig, Path, Path]] = []

    def train(
        model: Any,
        config: TrainConfig,
        folder: Path,
        *,
        data_dir: Path,
        should_stop: Callable[[], bool],
        ranks: Ranks,
    ) -> Iterator[WorkEvent]:
        assert ranks.size == 1
        calls.append((config, folder, data_dir))
        yield WorkProgress(0.5, "grpo", 2.5, ROW)
        yield WorkCheckpoint()
        yield WorkSample({"type": "sample", "context": "context"})
        if should_stop():
            yield WorkStopped()
            return
        (folder / "policy").mkdir()
        (folder / "policy" / "config.json").write_text("{}")
        summary = {"kl": 0.1, "seconds": 4}
        yield WorkFinished({"folder": str(folder / "policy"), "summary": summary})

    monkeypatch.setattr("sol_core.training.trainer.train", train)
    return calls


def test_training_becomes_updates_and_a_stored_policy(
    make_task: MakeTask,
    trainings: list[Any],
    loaded: list[dict[str, Any]],
    said: list[str],
    data_dir: DataDir,
) -> None:
    task = make_task("train", PARAMS)
    updates = list(ENGINES["train"](task))
    assert updates == [
        WorkProgress(0.5, "grpo", 2.5, ROW),
        WorkCheckpoint(),
        WorkSample({"type": "sample", "context": "context"}),
        WorkFinished(
            {
                "policy": "my policy",
                "folder": str(data_dir.policies / "my policy"),
                "summary": {"kl": 0.1, "seconds": 4},
            }
        ),
    ]
    assert (data_dir.policies / "my policy" / "config.json").exists()
    assert trainings == [(CONFIG, task.folder, data_dir.root)], "read back from JSON unchanged"
    asked = {"name": "m", "data_dir": data_dir.root, "dtype": "float32", "device": "auto"}
    assert loaded == [asked]
    assert said[0] == "reading the model"


def test_a_job_that_waits_for_the_kernels_says_so(
    make_task: MakeTask,
    trainings: list[Any],
    loaded: list[dict[str, Any]],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[torch.dtype] = []

    def compile_until_it_was_said(dtype: torch.dtype, quantised: bool) -> None:
        asked.append(dtype)
        wait_until(lambda: COMPILING in said)

    monkeypatch.setattr("sol_core.generation.warm_up.warm_up_kernels", compile_until_it_was_said)
    list(ENGINES["train"](make_task("train", PARAMS)))
    assert said[:2] == ["reading the model", COMPILING], "while they compile, the model is read"
    assert said[2] == "Reading the text"
    assert asked == [torch.float32]


def test_the_jobs_own_number_format_and_device_win(
    make_task: MakeTask, trainings: list[Any], loaded: list[dict[str, Any]]
) -> None:
    chosen = {"dtype": "bfloat16", "device": "cpu"}
    list(ENGINES["train"](make_task("train", PARAMS | chosen)))
    assert chosen.items() <= loaded[0].items()


def test_a_taken_name_is_numbered_but_a_second_start_adopts_once(
    make_task: MakeTask, trainings: list[Any], loaded: list[Any], data_dir: DataDir
) -> None:
    first, second = (make_task("train", PARAMS) for _ in range(2))
    names = [list(ENGINES["train"](task))[-1].result["policy"] for task in (first, second)]  # type: ignore[union-attr]  # the last one is WorkFinished
    assert names == ["my policy", "my policy-2"]
    again = list(ENGINES["train"](second))[-1]  # its worker died before the row said so
    assert isinstance(again, WorkFinished)
    assert again.result["policy"] == "my policy-2"
    assert sorted(path.name for path in data_dir.policies.iterdir()) == names


def test_training_stops_when_told(
    make_task: MakeTask, trainings: list[Any], loaded: list[Any], data_dir: DataDir
) -> None:
    answers = iter([False, True])
    updates = list(ENGINES["train"](make_task("train", PARAMS, lambda: next(answers))))
    assert updates[-1] == WorkStopped()
    assert list(data_dir.policies.iterdir()) == []
    updates = list(ENGINES["train"](make_task("train", PARAMS, lambda: True)))
    assert updates == [WorkStopped()], "while the model was loaded"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": None}, "config"),
        ({"model": 3}, "model"),
        ({"name": None}, "name"),
        ({"config": {"bogus": 1}}, "bogus"),
    ],
)
def test_bad_parameters_are_named_before_the_model_is_loaded(
    make_task: MakeTask,
    trainings: list[Any],
    loaded: list[Any],
    change: dict[str, Any],
    named: str,
) -> None:
    with pytest.raises((AppError, ConfigError), match=named):
        list(ENGINES["train"](make_task("train", PARAMS | change)))
    assert trainings == []
    if named != "model":
        assert loaded == []


def test_evaluation_becomes_updates(
    make_task: MakeTask,
    loaded: list[Any],
    data_dir: DataDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = EvaluationConfig(texts=4, baselines=("static", "random:3"))
    asked: list[Any] = []

    def evaluate(
        model: Any,
        policy_folders: Mapping[str, Path],
        config: EvaluationConfig,
        *,
        data_dir: Path,
        should_stop: Callable[[], bool],
        partial: Path,
    ) -> Iterator[Any]:
        asked.append((dict(policy_folders), config, data_dir, partial))
        yield WorkProgress(0.1, "dense")
        yield WorkProgress(0.5, "rollouts", 3.0)
        yield WorkSample({"texts": 2})
        yield WorkStopped() if should_stop() else WorkFinished({"schema": 1})

    monkeypatch.setattr("sol_core.evaluation.runner.evaluate", evaluate)
    (data_dir.policies / "p").mkdir()
    (data_dir.policies / "p" / "config.json").write_text("{}")
    params = {
        "config": json.loads(json.dumps(config.to_dict())),
        "policies": ["p"],
        "model": "m",
    }
    task = make_task("evaluate", params)
    assert list(ENGINES["evaluate"](task)) == [
        WorkProgress(0.1, "dense"),
        WorkProgress(0.5, "rollouts", 3.0),
        WorkSample({"texts": 2}),
        WorkFinished({"schema": 1}),
    ]
    (found,) = asked
    assert found[:3] == ({"p": data_dir.policies / "p"}, config, data_dir.root)
    assert found[3].parent == task.folder, "a resumed job finds what it had done"
    stopped = list(ENGINES["evaluate"](make_task("evaluate", params, lambda: True)))
    assert stopped[-1] == WorkStopped()
    with pytest.raises(PolicyNotFoundError, match="no policy 'q'"):
        list(ENGINES["evaluate"](make_task("evaluate", params | {"policies": ["q"]})))
