"""A training's numbers in other tools' logs, through stand-ins of their libraries."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.host.paths import DataDir
from app.jobs.engines import ENGINES
from app.jobs.updates import JobTask, JobUpdate
from sol_core.progress import WorkFinished, WorkProgress
from tests.app.command_line import RunCommand, one_line

ROWS = (
    {"step": 1, "phase": "warm start", "elapsed_s": 1.0, "metrics": {"loss": 2.0}},
    {"step": 2, "phase": "grpo", "elapsed_s": 2.0, "metrics": {"loss": 0.5, "kl": 0.25}},
)


@pytest.fixture(autouse=True)
def trainer(monkeypatch: pytest.MonkeyPatch, data_dir: DataDir) -> None:
    def train(task: JobTask) -> Generator[JobUpdate, None, None]:
        for row in ROWS:
            yield WorkProgress(0.5, str(row["phase"]), None, row)
        yield WorkProgress(0.9, "no numbers")
        yield WorkFinished({"policy": "mine", "folder": "", "summary": {}})

    monkeypatch.setitem(ENGINES, "train", train)  # type: ignore[arg-type]  # it is a dict


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_trackers_get_every_number_and_the_settings(
    run: RunCommand, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    calls: list[Any] = []
    _module(
        monkeypatch,
        kind,
        init=lambda **options: (sys.stdout.write("hello"), calls.append(options)),
        log=lambda numbers, step: calls.append((step, numbers)),
        finish=lambda: calls.append("finished"),
    )
    options = ["--log-to", f"{kind}:sol", "--name", "mine", "--seed", "3", "--json"]
    assert json.loads(run("train", *options).out)["status"] == "succeeded"
    begun, *logged = calls
    assert (begun["project"], begun["name"], begun["config"]["seed"]) == ("sol", "mine", 3)
    assert logged == [
        (1, {"loss/warm start": 2.0}),
        (2, {"loss/grpo": 0.5, "kl": 0.25}),
        "finished",
    ]


def test_tensorboard_gets_scalars_in_a_folder_of_the_run(
    run: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            calls.append(folder)

        def add_text(self, name: str, text: str) -> None:
            assert "    seed: 0\n" in text

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((step, name, value))

        def flush(self) -> None:
            pass

        def close(self) -> None:
            calls.append("closed")

    _module(monkeypatch, "torch.utils.tensorboard", SummaryWriter=SummaryWriter)
    run("train", "--log-to", f"tensorboard:{tmp_path}", "--name", "mine")
    scalars = [(1, "loss/warm start", 2.0), (2, "loss/grpo", 0.5), (2, "kl", 0.25)]
    assert calls == [f"{tmp_path}/mine", *scalars, "closed"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("mlflow:x", "one of tensorboard:FOLDER, trackio:PROJECT, wandb:PROJECT"),
        ("wandb", "got 'wandb'"),
        ("wandb: ", "got 'wandb: '"),
        ("wandb:x", "pip install wandb"),
    ],
)
def test_what_cannot_be_logged_is_said_before_the_training(
    run: RunCommand, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    assert said in one_line(run("train", "--log-to", target))
    assert '"jobs": []' in run("jobs", "list", "--json").out
