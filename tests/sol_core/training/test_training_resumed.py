"""A training run that is killed anywhere is the uninterrupted one: its weights and its series."""

from __future__ import annotations

import dataclasses
import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sol_core.files.staging import read_safetensors
from sol_core.models.loading import LanguageModel
from sol_core.policy import PolicyConfig
from sol_core.progress import WorkEvent, WorkFinished, WorkProgress
from sol_core.training.config import GrpoConfig, TrainConfig, WarmStartConfig
from sol_core.training.trainer import train
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_training import tiny_train_config

Series = dict[int, tuple[str, dict[str, float]]]
PHASES = ("labelling", "warm start", "grpo", "calibrating", "measuring")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return tiny_train_config(
        tmp_path_factory.mktemp("corpus"),
        warm_start=WarmStartConfig(texts=4, epochs=5),
        grpo=GrpoConfig(updates=6, windows=2, rollouts=2),
    )


@dataclasses.dataclass
class Run:
    """A run in one folder, as often as it is started; what its starts reported, by step."""

    model: LanguageModel
    config: TrainConfig
    folder: Path
    series: Series = dataclasses.field(default_factory=dict)
    events: list[WorkEvent] = dataclasses.field(default_factory=list)

    def start(self, killed_at: int | None = None, events_later: int = 0) -> bool:
        """Go on up to a step, and some events more; false once it has finished.

        What was reported before must be reported alike: it stands in the database.
        """
        torch.manual_seed(len(self.events))  # whatever another process has done before
        events = train(self.model, self.config, self.folder, data_dir=self.folder.parent / "data")
        for event in events:
            self.events.append(event)
            if isinstance(event, WorkProgress) and event.row is not None:
                step, row = event.row["step"], (event.message, _repeatable(event.row["metrics"]))
                assert self.series.setdefault(step, row) == row
                if step == killed_at:
                    self.events += itertools.islice(events, events_later)
                    events.close()  # type: ignore[attr-defined]  # it is a generator
                    return True
        assert isinstance(self.events[-1], WorkFinished)
        return False

    def state(self) -> dict[str, Any]:
        """Every number that the run ended with: network in fp32, prices, correction."""
        header, tensors = read_safetensors(self.folder / "checkpoint.safetensors", "pt")
        numbers = {name: value.tolist() for name, value in tensors.items()}
        policy = (self.folder / "policy" / "model.safetensors").read_bytes()
        progress = json.loads(header["progress"])
        return numbers | {
            "policy": policy,
            "prices": progress["prices"],
            "correction": progress["correction"],
            "measured": progress["measured"],
        }


def _repeatable(metrics: dict[str, float]) -> dict[str, float]:
    """All but the speed."""
    return {name: value for name, value in metrics.items() if name != "decisions_per_s"}


@pytest.fixture(scope="module")
def whole(
    model: LanguageModel, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    run = Run(model, config, tmp_path_factory.mktemp("whole") / "run")
    run.start()
    return run


def test_steps_are_counted_without_gaps(whole: Run) -> None:
    assert list(whole.series) == list(range(1, len(whole.series) + 1))
    assert set(PHASES) == {phase for phase, _ in whole.series.values()}


@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1000.0])
@pytest.mark.parametrize("later", [0, 1])
def test_a_run_that_is_killed_at_every_step_is_the_uninterrupted_one(
    whole: Run, tmp_path: Path, checkpoint_seconds: float, later: int
) -> None:
    """With a checkpoint after every unit, and with one after every phase only; killed before and
    after the checkpoint, or the sample, that follows a report. Every start goes on from what the
    starts before have left, so a step that one of them does not restore shows in all later ones.
    """
    config = dataclasses.replace(whole.config, checkpoint_seconds=checkpoint_seconds)
    run = Run(whole.model, config, tmp_path / "run")
    for step in whole.series:
        assert run.start(step, later)
    run.start()
    assert run.series == whole.series
    assert run.state() == whole.state()


CHILD = """
import json, os, signal, sys
from pathlib import Path
import torch
import torch._dynamo  # an optimiser imports it
from sol_core.files.assets import DEFAULT_MODEL
from sol_core.fields import from_json
from sol_core.models.loading import load_language_model
from sol_core.progress import WorkProgress
from sol_core.training.config import TrainConfig
from sol_core.training.trainer import train

record, data_dir = sys.argv[1:]
torch.set_num_threads(1)  # a fork would be without the others
config = from_json(TrainConfig, json.loads(record))
model = load_language_model(DEFAULT_MODEL, data_dir=Path(data_dir))
for line in sys.stdin:
    folder, killed_at = json.loads(line)
    print("started", flush=True)
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
        continue
    for event in train(model, config, Path(folder), data_dir=Path(folder).parent):
        if isinstance(event, WorkProgress) and event.row is not None:
            print(json.dumps(event.row), flush=True)
            if event.row["step"] == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)
"""


@pytest.mark.model
def test_a_killed_process_with_the_real_model_is_no_exception(
    config: TrainConfig, model_data_dir: Path, tmp_path: Path
) -> None:
    """Each start is a fork of a process that has loaded the model and done nothing with it."""
    short = dataclasses.replace(
        config,
        steps=2,
        policy=PolicyConfig(),
        warm_start=WarmStartConfig(texts=1, epochs=3),
        grpo=GrpoConfig(updates=2, windows=1, rollouts=2),
        calibration_texts=1,
    )

    def start(loaded: subprocess.Popen[str], name: str, killed_at: int | None = None) -> Series:
        assert loaded.stdin is not None
        assert loaded.stdout is not None
        loaded.stdin.write(json.dumps([str(tmp_path / name / "run"), killed_at]) + "\n")
        loaded.stdin.flush()
        assert loaded.stdout.readline() == "started\n"
        reports = []
        while isinstance(report := json.loads(loaded.stdout.readline()), dict):
            reports.append(report)
        assert report == (0 if killed_at is None else -signal.SIGKILL)
        return {
            report["step"]: (report["phase"], _repeatable(report["metrics"])) for report in reports
        }

    with subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(short.to_dict()), str(model_data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as loaded:
        whole = start(loaded, "whole")
        updated = next(step for step, (phase, _) in whole.items() if phase == "grpo")
        parts = [start(loaded, "parts", updated + 1), start(loaded, "parts")]
    for part in parts:
        assert part == {step: whole[step] for step in part}
    assert set().union(*parts) == set(whole)
    ends = [
        Run(None, short, tmp_path / name / "run").state()  # type: ignore[arg-type]  # only read
        for name in ("whole", "parts")
    ]
    assert ends[0] == ends[1]
