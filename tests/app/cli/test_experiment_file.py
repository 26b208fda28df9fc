"""Trainings as TOML files: what a recipe says, what comes on top, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.commands import train as train_command
from app.cli.experiment_file import merged, read_experiment, recipe
from app.jobs.engines import ENGINES
from app.jobs.updates import JobTask
from sol_core.actions import GRIDS
from sol_core.fields import from_json
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
    run("train", "--config", "a.toml")
    run("train", "--config", "b.toml")
    first, second = (task.job.params for task in trained)
    assert first["dtype"] == "float32"
    quick = preset("quick", corpus=str(tmp_path / "text.txt"))
    expected = dataclasses.replace(quick, grpo=dataclasses.replace(quick.grpo, updates=2))
    assert from_json(TrainConfig, first["config"]) == expected
    assert from_json(TrainConfig, second["config"]) == TrainConfig(seed=4)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seed = ", "is not TOML"),
        ("sed = 1", "unknown field 'sed'"),
        ("[grpo]\nupdates = 1.5", "whole number"),
        ("grpo = 3", "grpo"),
        ("preset = 3", "preset must be a text"),
        ('preset = "slow"', "one of quick, standard, share, paper"),
        ('corpus = "none.txt"', "no such file"),
        ("corpus = 4", "corpus"),
    ],
)
def test_a_wrong_file_is_refused_by_name(
    run: RunCommand, trained: list[JobTask], tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    assert named in one_line(run("train", "--config", str(file)))
    assert not trained
    assert "cannot read" in one_line(run("train", "--config", str(tmp_path / "none.toml")))
    assert "leave the others out" in one_line(run("train", "--config", str(file), "--resume", "x"))


def test_the_shipped_policy_has_a_recipe(run: RunCommand) -> None:
    text = json.loads(run("policies", "recipe", "default", "--json").out)["recipe"]
    assert text == run("policies", "recipe", "default").out
    assert "corpus fingerprint" in text


def test_a_policy_without_its_training_has_none() -> None:
    info = dataclasses.replace(_info({}), summary={})
    with pytest.raises(train_command.InputFileError, match="does not say how"):
        recipe(info, "1")


def test_records_are_merged_deeply() -> None:
    record = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merged(record, {"a": {"c": {"d": 4}}, "e": {"f": 5}}) == {
        "a": {"b": 1, "c": {"d": 4}},
        "e": {"f": 5},
    }
    assert record["a"] == {"b": 1, "c": {"d": 2}}
