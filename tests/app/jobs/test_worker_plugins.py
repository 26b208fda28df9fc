"""A worker process and parts of one's own: a real process, a real SQLite, a real training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.host.paths import DataDir
from sol_core.training import GrpoConfig, TrainConfig, WarmStartConfig
from storage import JobRecord, Store
from tests.app.waiting import wait_until
from tests.support.tiny_language_model import save_model_folder
from tests.support.tiny_training import tiny_train_config

PROJECT = Path(__file__).resolve().parents[3]
PARTS = """
from sol_core import extensions


@extensions.reward("twice")
def twice(scores):
    return -2.0 * scores.kl


@extensions.observation("position", size=1)
def position(seen):
    return seen.tokens[:, None].float() / 300
"""
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from app.cli.main import main; main({})"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of one's own, away from the project."""
    made = tmp_path / "mine"
    made.mkdir()
    (made / "my_parts.py").write_text(PARTS)
    return made


def _command(*arguments: str) -> list[str]:
    code = START.format("sys.argv[1:]")
    return [sys.executable, "-c", code, str(PROJECT), *arguments]


def _config(folder: Path) -> TrainConfig:
    """A training that asks for both parts; they are known while it is written down."""
    import importlib

    from sol_core.extensions import OBSERVATIONS, REWARDS

    sys.path.insert(0, str(folder))
    try:
        importlib.import_module("my_parts")
        phases: dict[str, Any] = {
            "warm_start": WarmStartConfig(texts=2),
            "grpo": GrpoConfig(updates=1, rollouts=2, windows=1, reward="twice"),
        }
        config = tiny_train_config(folder, **phases)
        return replace(config, policy=replace(config.policy, observation="position"))
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("my_parts", None)
        REWARDS.remove("twice")
        OBSERVATIONS.remove("position")


def _done_by_a_worker(
    store: Store, data_dir: DataDir, folder: Path, job_id: str, *options: str
) -> JobRecord:
    command = _command("worker", "--data-dir", str(data_dir.root), *options)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("SOL_PLUGINS", None)
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as worker:
        try:
            wait_until(lambda: store.jobs.get(job_id).finished_at is not None, 240.0)
        finally:
            worker.terminate()
            worker.communicate()
    return store.jobs.get(job_id)


@pytest.mark.timeout(600)  # kernels may be compiled first
def test_a_worker_has_the_parts_that_its_option_names_and_refuses_what_it_lacks(
    store: Store, data_dir: DataDir, folder: Path, tmp_path: Path
) -> None:
    model = save_model_folder(tmp_path / "model", "llama-gqa-tied", starts=False)
    params = {
        "config": json.loads(json.dumps(_config(folder).to_dict())),
        "model": str(model),
        "name": "mine",
        "dtype": "float32",
        "device": "cpu",
    }
    without = store.jobs.create("train", "alice", "without", params)
    refused = _done_by_a_worker(store, data_dir, folder, without.id)
    assert refused.status == "failed"
    assert "policy.observation must be one of standard, or what a module registers" in str(
        refused.error
    )
    assert "--plugin MODULE" in str(refused.error)

    wanted = store.jobs.create("train", "alice", "with", params)
    done = _done_by_a_worker(store, data_dir, folder, wanted.id, "--plugin", "my_parts")
    assert (done.status, done.error) == ("succeeded", None)
    assert done.result is not None
    assert done.result["policy"] == "mine"

    asked = {
        "config": {"corpus": str(folder / "text.txt"), "texts": 2, "context": 16, "steps": 4},
        "policies": ["mine"],
        "model": str(model),
        "dtype": "float32",
        "device": "cpu",
    }
    measured = store.jobs.create("evaluate", "alice", "without", asked)
    refused = _done_by_a_worker(store, data_dir, folder, measured.id)
    assert refused.status == "failed"
    where = data_dir.policies / "mine"
    assert f"in {where} needs the observation 'position', which nothing has registered" in str(
        refused.error
    )
