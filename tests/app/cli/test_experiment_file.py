"""Trainings as TOML files: what a recipe says, what comes on top, what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.commands import train as train_command
from app.cli.experiment_file import read_experiment, recipe
from app.jobs.engines import ENGINES
from app.jobs.updates import JobTask
from sol_core.actions import GRIDS
from sol_core.fields import from_json
from sol_core.files.places import read_regular
from sol_core.policy import PolicyConfig, PolicyInfo
from sol_core.policy.info import InputLayout
from sol_core.progress import WorkStopped
from sol_core.training.config import PRESETS, TrainConfig, preset
from tests.app.command_line import RunCommand, one_line

TEXTS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x7f"), max_size=30
)


def _info(config: dict[str, Any], name: str = "mine") -> PolicyInfo:
    made_of = (GRIDS["default"], PolicyConfig(), InputLayout(8, 2))
    return PolicyInfo(name, "some/model", "f" * 32, *made_of, summary={"train_config": config})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[JobTask]:
    """Trainings that were begun; each stops at once."""
    begun: list[JobTask] = []

    def train(task: JobTask) -> Any:
        begun.append(task)
        yield WorkStopped()

    monkeypatch.setitem(ENGINES, "train", train)  # type: ignore[arg-type]  # it is a dict
    return begun


@given(name=TEXTS, chosen=st.sampled_from(sorted(PRESETS)), seed=st.integers(0, 2**31 - 1))
def test_a_recipe_is_the_whole_training(
    tmp_path_factory: pytest.TempPathFactory, name: str, chosen: str, seed: int
) -> None:
    config = preset(chosen, seed=seed, grid=GRIDS["paper"], corpus=name or "builtin")
    file = tmp_path_factory.mktemp("recipe") / "run.toml"
    file.write_text(recipe(_info(config.to_dict(), name), "1.2.3"), encoding="utf-8")
    found = read_experiment(file)
    assert from_json(TrainConfig, found.fields) == config
    assert found.options == {"name": f"{name}-again", "model": "some/model"}


def test_a_file_says_everything_and_options_come_on_top(
    run: RunCommand, trained: list[JobTask], tmp_path: Path
) -> None:
    file = tmp_path / "run.toml"
    config = preset("quick", seed=5)
    file.write_text(recipe(_info(config.to_dict()), "1.2.3"), encoding="utf-8")
    run("train", "--config", str(file))
    run("train", "--config", str(file), "--seed", "6", "--set", "grpo.updates=3", "--name", "other")
    first, second = (task.job.params for task in trained)
    assert from_json(TrainConfig, first["config"]) == config
    assert (first["name"], first["model"]) == ("mine-again", "some/model")
    changed = dataclasses.replace(config, seed=6, grpo=dataclasses.replace(config.grpo, updates=3))
    assert from_json(TrainConfig, second["config"]) == changed
    assert second["name"] == "other"


def test_a_short_file_starts_from_a_preset_or_the_defaults(
    run: RunCommand, trained: list[JobTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "a.toml").write_text(
        'preset = "quick"\ndtype = "float32"\ncorpus = "text.txt"\n[grpo]\nupdates = 2\n'
    )
    (tmp_path / "b.toml").write_text("seed = 4\n")
    (tmp_path / "model").mkdir()
    run("train", "--config", "a.toml", "--model", "model")
    run("train", "--config", "b.toml")
    first, second = (task.job.params for task in trained)
    assert (first["dtype"], first["model"]) == ("float32", str(tmp_path / "model"))
    quick = preset("quick", corpus=str(tmp_path / "text.txt"))
    expected = dataclasses.replace(quick, grpo=dataclasses.replace(quick.grpo, updates=2))
    assert from_json(TrainConfig, first["config"]) == expected
    assert from_json(TrainConfig, second["config"]) == TrainConfig(seed=4)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"seed = ", "is not TOML"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "is not TOML: it is nested too deep"),
        (b"a = " + b"9" * 5000, "is not TOML: it holds a whole number of more than 4,300 digits"),
        (b"\xff\xfea", "is not TOML: 'utf-8' codec"),
        (b"#" * 1_000_001, "cannot read"),
        ("\ufeffsed = 1".encode(), "unknown field 'sed'"),  # a byte order mark is no matter
        (b"grpo = 3", "grpo"),
        (b"preset = 3", "preset must be a text"),
        (b'preset = "slow"', "one of quick, standard, share, paper"),
        (b'corpus = "none.txt"', "no such file"),
    ],
)
def test_a_wrong_file_is_refused_by_name(
    run: RunCommand, trained: list[JobTask], tmp_path: Path, content: bytes, named: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    assert named in one_line(run("train", "--config", str(file)))
    assert not trained
    assert "leave the others out" in one_line(run("train", "--config", str(file), "--resume", "x"))


def test_the_shipped_policy_has_a_recipe(run: RunCommand) -> None:
    text = json.loads(run("policies", "recipe", "default", "--json").out)["recipe"]
    assert text == run("policies", "recipe", "default").out
    assert "corpus fingerprint" in text


def test_a_policy_without_its_training_has_none() -> None:
    info = dataclasses.replace(_info({}), summary={})
    with pytest.raises(train_command.InputFileError, match="does not say how"):
        recipe(info, "1")


COMMANDS = [
    *(("train", "--config"), ("train", "--corpus"), ("evaluate", "--config"), ("import",)),
    *(("policies", "import", "--any-model"), ("score",), ("inspect",), ("generate", "--prompts")),
]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are no files there")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_pipe_or_a_device_is_named_and_not_waited_for(
    run: RunCommand, tmp_path: Path, command: tuple[str, ...]
) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", Path("/dev/zero")):
        done = run(*command, str(path))
        assert (done.status != 0, len(done.err.splitlines())) == (True, 1)
        assert str(path) in done.err


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123")
    assert read_regular(path, 3) == b"123"
    for most, where in ((2, path), (9, tmp_path), (9, tmp_path / "none"), (9, Path("a\0b"))):
        with pytest.raises(OSError):  # noqa: PT011  # of many kinds
            read_regular(where, most)
