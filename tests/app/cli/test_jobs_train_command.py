"""``train`` and its files: what it prints, refuses and leaves; no file is waited for."""

import dataclasses
import json
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.input_files import apply_settings, read_experiment, recipe
from app.host.processes import own_worker_id
from app.jobs.engines import ENGINES
from sol_core.actions import GRIDS
from sol_core.errors import ConfigError, CorpusError
from sol_core.fields import from_json
from sol_core.files.paths import read_regular
from sol_core.policy.info import InputLayout, PolicyConfig, PolicyInfo
from sol_core.progress import WorkFinished, WorkProgress
from sol_core.training.config import PRESETS, TrainConfig, preset
from tests.app.command_line import one_line, started
from tests.app.tiny_project import PROJECT
from tests.app.waiting import wait_until

SUMMARY = {"held_out": {"kl": 0.123456}, "updates": 5, "train_config": {"seed": 0}}


@pytest.fixture
def trainer(monkeypatch, data_dir):
    """A training that stores a policy after two steps; returns what it was given."""
    given = []

    def train(task):
        given.append(task)
        for step in (1, 2):
            row = {"step": step, "phase": "grpo", "metrics": {"kl": 0.5 / step}}
            yield WorkProgress(step / 2, "grpo", 10.0, row)
        folder = data_dir.policies / str(task.job.params["name"])
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
        yield WorkFinished({"policy": folder.name, "folder": str(folder), "summary": SUMMARY})

    monkeypatch.setitem(ENGINES, "train", train)
    return given


def test_train_prints_one_json_and_leaves_a_job(run, trainer, store, tmp_path):
    out = tmp_path / "made" / "policy"
    done = run(
        *["train", "--preset", "quick", "--seed", "7", "--minutes", "2.5", "--name", "mine"],
        *["--set", "grpo.updates=5", "--out", str(out), "--json"],
    )
    said = " 50 %  grpo, about 10 s left\n100 %  grpo, about 10 s left\n"
    assert (done.status, done.err) == (0, said)
    report = json.loads(done.out)
    assert report["status"] == "succeeded"
    assert (report["policy"], report["out"]) == ("mine", str(out))
    assert report["summary"] == SUMMARY
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors"}
    config = from_json(TrainConfig, report["params"]["config"])
    assert (config.seed, config.time_limit_minutes, config.grpo.updates) == (7, 2.5, 5)
    assert config.warm_start == PRESETS["quick"].warm_start
    job = store.jobs.get(report["job"])
    assert (job.status, job.title, job.kind) == ("succeeded", "mine", "train")
    assert job.worker == own_worker_id()
    assert job.params == report["params"]
    assert [row["metrics"] for row in store.jobs.metrics(job.id)] == [{"kl": 0.5}, {"kl": 0.25}]


def test_train_for_people(run, trainer, data_dir):
    done = run("train")
    assert done.status == 0
    assert re.findall(r"^(\w.*?) +(\S+)$", done.out, re.MULTILINE) == [
        ("policy", "standard-seed0"),
        ("folder", str(data_dir.policies / "standard-seed0")),
        ("held out kl", "0.12346"),
        ("updates", "5"),
    ]
    assert trainer[0].job.params["model"] == "smollm2-135m-instruct"
    assert "dtype" not in trainer[0].job.params


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["--minutes", "nan"], 2, "minutes must be between 0.01"),
        (["--set", "grpo.updates"], 2, "key=value"),
        (["--set", "grpo.upates=5"], 2, "grpo has an unknown field 'upates'"),
        (["--corpus", "none.txt"], 1, "no such file"),
        (["--out", str(PROJECT)], 1, "not empty"),
        (["--name", " "], 2, "--name"),
        (["--resume", "x", "--seed", "1"], 2, "--resume"),
        (["--resume", "0123456789ab"], 1, "no job"),
    ],
)
def test_train_refuses_before_anything_is_loaded(run, trainer, store, arguments, status, named):
    done = run("train", *arguments, "--json")
    assert named in one_line(done)
    assert done.status == status
    assert trainer == []
    assert store.jobs.list() == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CorpusError("the text is too small"), 1, "too small"),
        (ConfigError("steps must be at least 2"), 2, "steps must be"),
        (ZeroDivisionError("a mistake"), 1, "ZeroDivisionError: a mistake"),
    ],
)
def test_a_training_that_fails_says_why_and_can_be_resumed(
    run, store, monkeypatch, error, status, said
):
    def fail(task):
        raise error
        yield

    monkeypatch.setitem(ENGINES, "train", fail)
    done = run("train", "--json")
    assert said in one_line(done)
    assert done.status == status
    (job,) = store.jobs.list()
    assert job.status == "failed"
    assert said in str(job.error)

    def go_on(task):
        assert task.job.id == job.id
        yield WorkFinished({"policy": "p", "folder": "f"})

    monkeypatch.setitem(ENGINES, "train", go_on)
    done = run("train", "--resume", job.id, "--json")
    assert json.loads(done.out)["policy"] == "p"
    assert store.jobs.get(job.id).status == "succeeded"
    assert "nothing to resume" in one_line(run("train", "--resume", job.id))


TRAIN_FOR_LONG = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from app.cli import main as cli
from app.jobs.engines import ENGINES
from tests.app.job_stand_in import count
def slowly(task):
    task.job.params.update(steps=1000, step_s=0.02)
    yield from count(task)
ENGINES["train"] = slowly
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ctrl_c_checkpoints_and_says_how_to_go_on(data_dir, store):
    command = ["-c", TRAIN_FOR_LONG, PROJECT, "train", "--data-dir", data_dir.root]
    with started(*command) as process:
        wait_until(lambda: store.jobs.list())
        (job,) = store.jobs.list()
        assert (job.status, job.worker is not None) == ("running", True)
        wait_until(lambda: store.jobs.metrics(job.id))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"go on here with: python launch.py train --resume {job.id}" in err
    assert out == ""
    assert store.jobs.get(job.id).status == "paused"
    assert json.loads((data_dir.jobs / job.id / "checkpoint.json").read_text())["step"] > 0


def test_ctrl_c_does_not_wait_for_a_long_unit_of_work(data_dir, store):
    deaf = TRAIN_FOR_LONG.replace("steps=1000", "steps=1000, deaf=True")
    with started("-c", deaf, PROJECT, "train", "--data-dir", data_dir.root) as process:
        wait_until(lambda: store.jobs.list() and store.jobs.metrics(store.jobs.list()[0].id))
        process.send_signal(signal.SIGINT)
        assert "--data-dir" in process.communicate(timeout=10)[1]


def test_settings_are_read_by_the_types_of_their_fields():
    config = apply_settings(
        preset("standard"),
        [
            *("grpo.temperature=2", "grpo.reward=nll", "grid.keep_fractions=[0.5, 1.0]"),
            *("time_limit_minutes=3", "corpus=a=b", "seed= 4", "seed=5", "policy.network=joint"),
        ],
    )
    assert config.grpo.temperature == 2.0
    assert config.grid == replace(GRIDS["default"], keep_fractions=(0.5, 1.0))
    assert (config.corpus, config.seed, config.time_limit_minutes) == ("a=b", 5, 3)
    assert (config.grpo.reward, config.policy.network) == ("nll", "joint")
    assert apply_settings(config, ["time_limit_minutes=null"]).time_limit_minutes is None


TEXTS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x7f"), max_size=30
)


def _info(config, name="mine"):
    made_of = (GRIDS["default"], PolicyConfig(), InputLayout(8, 2))
    return PolicyInfo(name, "some/model", "f" * 32, *made_of, summary={"train_config": config})


@given(name=TEXTS, chosen=st.sampled_from(sorted(PRESETS)), seed=st.integers(0, 2**31 - 1))
def test_a_recipe_is_the_whole_training(tmp_path_factory, name, chosen, seed):
    config = preset(chosen, seed=seed, grid=GRIDS["paper"], corpus=name or "builtin")
    file = tmp_path_factory.mktemp("recipe") / "run.toml"
    file.write_text(recipe(_info(config.to_dict(), name)), encoding="utf-8")
    options, fields = read_experiment(file)
    assert from_json(TrainConfig, fields) == config
    assert options == {"name": f"{name}-again", "model": "some/model"}


def test_a_file_says_everything_and_options_come_on_top(run, trainer, tmp_path):
    file = tmp_path / "run.toml"
    config = preset("quick", seed=5)
    file.write_text(recipe(_info(config.to_dict())), encoding="utf-8")
    run("train", "--config", str(file))
    run("train", "--config", str(file), "--seed", "6", "--set", "grpo.updates=3", "--name", "other")
    first, second = (task.job.params for task in trainer)
    assert from_json(TrainConfig, first["config"]) == config
    assert (first["name"], first["model"]) == ("mine-again", "some/model")
    changed = dataclasses.replace(config, seed=6, grpo=dataclasses.replace(config.grpo, updates=3))
    assert from_json(TrainConfig, second["config"]) == changed
    assert second["name"] == "other"


def test_a_short_file_starts_from_a_preset_or_the_defaults(run, trainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "a.toml").write_text(
        'preset = "quick"\ndtype = "float32"\ncorpus = "text.txt"\n[grpo]\nupdates = 2\n'
    )
    (tmp_path / "b.toml").write_text("seed = 4\n")
    (tmp_path / "model").mkdir()
    run("train", "--config", "a.toml", "--model", "model")
    run("train", "--config", "b.toml")
    first, second = (task.job.params for task in trainer)
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
        (b'preset = "slow"', "one of quick, standard, paper"),
        (b'corpus = "none.txt"', "no such file"),
    ],
)
def test_a_wrong_file_is_refused_by_name(run, trainer, tmp_path, content, named):
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    assert named in one_line(run("train", "--config", str(file)))
    assert not trainer
    assert "leave the others out" in one_line(run("train", "--config", str(file), "--resume", "x"))


def test_the_shipped_policy_has_a_recipe(run):
    text = json.loads(run("policies", "recipe", "default", "--json").out)["recipe"]
    assert text == run("policies", "recipe", "default").out
    assert "corpus fingerprint" in text


COMMANDS = [
    *(("train", "--config"), ("train", "--corpus"), ("evaluate", "--config"), ("import",)),
    *(("policies", "import", "--any-model"), ("score",), ("inspect",), ("generate", "--prompts")),
]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are no files there")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_pipe_or_a_device_is_named_and_not_waited_for(run, tmp_path, command):
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", Path("/dev/zero")):
        done = run(*command, str(path))
        assert (done.status != 0, len(done.err.splitlines())) == (True, 1)
        assert str(path) in done.err


def test_no_more_is_read_than_may_be(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"123")
    assert read_regular(path, 3) == b"123"
    for most, where in ((2, path), (9, tmp_path), (9, tmp_path / "none"), (9, Path("a\0b"))):
        with pytest.raises(OSError):  # noqa: PT011  # of many kinds
            read_regular(where, most)
