"""Whole training runs on a tiny model: repeatable, resumable, and refusing what cannot work."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sol_core.actions import GRIDS, ActionGrid, Budget
from sol_core.errors import ConfigError, CorpusError, PolicyError, SolError, TrainingDivergedError
from sol_core.files.staging import read_safetensors, write_safetensors
from sol_core.models.loading import LanguageModel
from sol_core.policy import PolicyConfig, load_policy
from sol_core.progress import (
    WorkCheckpoint,
    WorkEvent,
    WorkFinished,
    WorkProgress,
    WorkSample,
    WorkStopped,
)
from sol_core.training import run_state
from sol_core.training.config import METRICS, GrpoConfig, TrainConfig, WarmStartConfig, preset
from sol_core.training.measure import held_out_budgets
from sol_core.training.ranks import Ranks
from sol_core.training.run_state import RunState
from sol_core.training.trainer import train
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_training import tiny_train_config

CHECKPOINT = "checkpoint.safetensors"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return tiny_train_config(
        tmp_path_factory.mktemp("corpus"),
        warm_start=WarmStartConfig(texts=3, epochs=2),
        grpo=GrpoConfig(updates=2, windows=2, rollouts=2),
    )


def run(
    model: LanguageModel,
    config: TrainConfig,
    folder: Path,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[WorkEvent]:
    data_dir = folder.parent / "data"
    return list(train(model, config, folder, data_dir=data_dir, should_stop=should_stop))


def rows_of(events: Sequence[WorkEvent]) -> list[dict[str, Any]]:
    return [
        event.row for event in events if isinstance(event, WorkProgress) and event.row is not None
    ]


@pytest.fixture(scope="module")
def whole(
    model: LanguageModel, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The weights of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(model, config, folder)
    return weights(folder)


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "policy" / "model.safetensors").read_bytes()).hexdigest()


def test_a_run_reports_measures_samples_and_ends_with_a_policy(
    model: LanguageModel, config: TrainConfig, tmp_path: Path
) -> None:
    events = run(model, config, tmp_path / "run")
    reports = [event for event in events if isinstance(event, WorkProgress)]
    assert reports[0].row is None  # preparing
    rows = rows_of(reports[1:])
    assert [row["step"] for row in rows] == list(range(1, len(reports)))
    phases = list(dict.fromkeys(report.message for report in reports))
    assert phases == ["preparing", "measuring", "labelling", "warm start", "grpo", "calibrating"]
    # Measured before anything is learnt: static, and a policy that is near it.
    gaps = {"gap_keep", "gap_channels", "gap_bits"}
    assert [set(row["metrics"]) for row in rows[:2]] == [
        set(),
        {"kl", "nll", "entropy", "kl_static", "nll_static", "nll_dense", *gaps},
    ]
    first = rows[1]["metrics"]
    assert first["kl"] == pytest.approx(first["kl_static"], rel=0.25)
    assert all(0 <= report.fraction <= 1 for report in reports)
    calibrating = [report.fraction for report in reports if report.message == "calibrating"]
    assert calibrating == sorted(set(calibrating))  # the bar moves with every text
    names = {name for row in rows for name in row["metrics"]}
    assert names == set(METRICS)
    sample = next(event for event in events if isinstance(event, WorkSample))
    assert len(sample.record["tokens"]) == config.steps
    finished = events[-1]
    assert isinstance(finished, WorkFinished)
    assert finished.result["summary"]["updates"] == 2
    assert finished.result["summary"]["labelled_texts"] == 3
    policy = load_policy(Path(finished.result["folder"]), model, grid=config.grid)
    assert policy.info.summary["held_out"]["kl"] >= 0
    assert {type(event) for event in events} == {
        WorkProgress,
        WorkSample,
        WorkCheckpoint,
        WorkFinished,
    }


def test_labelling_is_measured_by_a_policy_that_learns_from_the_labels_so_far(
    model: LanguageModel,
    config: TrainConfig,
    whole: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And is forgotten: the run's own policy is what it would have been."""
    monkeypatch.setattr(RunState, "is_measure_due", lambda _: True)
    rows = rows_of(run(model, config, tmp_path / "run"))
    phases = [row["phase"] for row in rows if "kl" in row["metrics"] or row["phase"] != "measuring"]
    until = phases.index("warm start")  # whose first step is measured before it is reported
    assert phases[:until] == [
        "measuring",
        *["measuring", "labelling"] * 2,
        "labelling",
        "measuring",
    ]
    measured = [row["metrics"]["entropy"] for row in rows if "kl" in row["metrics"]]
    assert len(set(measured[:3])) == 3  # untrained, after one text, after two
    assert phases.count("measuring") > len(measured) / 2
    assert weights(tmp_path / "run") == whole


def test_it_is_measured_every_minute_but_not_for_more_than_a_quarter_of_the_time(
    model: LanguageModel, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(run_state.time, "monotonic", lambda: now)
    state = RunState(model, config, tmp_path / "run", tmp_path, Ranks())

    def is_due_after(seconds: float) -> bool:
        nonlocal now
        now += seconds
        return state.is_measure_due()

    assert [is_due_after(59), is_due_after(1)] == [False, True]
    for took, waits in ((4.0, 60.0), (30.0, 90.0)):
        with state.measuring():
            now += took
        assert [is_due_after(waits - 1), is_due_after(1)] == [False, True]
    now += 3600  # then every thirtieth of the time
    with state.measuring():
        now += 4.0
    assert [is_due_after(120), is_due_after(15)] == [False, True]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    model: LanguageModel, config: TrainConfig, whole: str, tmp_path: Path
) -> None:
    run(model, config, tmp_path / "again")
    run(model, dataclasses.replace(config, seed=1), tmp_path / "other")
    assert whole == weights(tmp_path / "again") != weights(tmp_path / "other")


@pytest.mark.parametrize("stop_after", [1, 3, 5, 9, 12])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    model: LanguageModel, config: TrainConfig, whole: str, tmp_path: Path, stop_after: int
) -> None:
    asked = iter(range(10_000))
    stopped = run(model, config, tmp_path / "parts", lambda: next(asked) >= stop_after)
    assert isinstance(stopped[-1], WorkStopped)
    assert isinstance(stopped[-2], WorkCheckpoint)
    torch.manual_seed(12345)  # whatever the process did meanwhile
    run(model, config, tmp_path / "parts")
    assert whole == weights(tmp_path / "parts")


def stop_in_grpo(model: LanguageModel, config: TrainConfig, folder: Path) -> None:
    phase: list[str] = []
    for event in train(
        model, config, folder, data_dir=folder.parent / "data", should_stop=lambda: "grpo" in phase
    ):
        if isinstance(event, WorkProgress):
            phase.append(event.message)


def test_a_checkpoint_cut_at_any_byte_is_passed_over_for_the_one_before(
    model: LanguageModel, config: TrainConfig, whole: str, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    stop_in_grpo(model, config, folder)
    intact = (folder / CHECKPOINT).read_bytes()
    for length in (0, 5, 60, len(intact) // 2, len(intact) - 1):
        (folder / CHECKPOINT).write_bytes(intact[:length])
        next(train(model, config, folder, data_dir=tmp_path / "data"))
    run(model, config, folder)
    assert whole == weights(folder)


def test_two_damaged_checkpoints_are_an_error_that_deletes_nothing(
    model: LanguageModel, config: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    stop_in_grpo(model, config, folder)
    for path in folder.glob("checkpoint*"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(PolicyError, match="no checkpoint in"):
        run(model, config, folder)
    assert len(list(folder.glob("checkpoint*"))) == 2
    assert len(list((folder / "labels").iterdir())) == 3


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
    model: LanguageModel,
    config: TrainConfig,
    whole: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import safetensors.torch

    save, calls = safetensors.torch.save_file, []

    def filling(tensors: object, path: Path, *rest: object) -> None:
        calls.append(path)
        if len(calls) > 9:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("safetensors.torch.save_file", filling)
    with pytest.raises(OSError, match="No space"):
        run(model, config, tmp_path / "full")
    monkeypatch.setattr("safetensors.torch.save_file", save)
    assert not list((tmp_path / "full").rglob("*.part"))
    run(model, config, tmp_path / "full")
    assert whole == weights(tmp_path / "full")


def test_divergence_stops_the_run_with_a_message_and_keeps_the_checkpoint(
    model: LanguageModel, config: TrainConfig, tmp_path: Path
) -> None:
    wild = dataclasses.replace(
        config, grpo=dataclasses.replace(config.grpo, updates=30, learning_rate=1.0)
    )
    folder = tmp_path / "run"
    stop_in_grpo(model, wild, folder)
    before = (folder / CHECKPOINT).read_bytes()
    events = train(model, wild, folder, data_dir=tmp_path / "data")
    next(events)
    frame = events.gi_frame.f_locals["state"]  # type: ignore[attr-defined]  # a generator's own
    with torch.no_grad():
        frame.policy.network.log_sharpness.fill_(torch.nan)
    with pytest.raises((TrainingDivergedError, RuntimeError)):
        list(events)
    assert (folder / CHECKPOINT).read_bytes() == before


def test_other_settings_do_not_continue_a_run(
    model: LanguageModel, config: TrainConfig, tmp_path: Path
) -> None:
    stop_in_grpo(model, config, tmp_path / "run")
    with pytest.raises(PolicyError, match="other settings"):
        run(model, dataclasses.replace(config, seed=9), tmp_path / "run")


def test_a_run_of_a_release_with_fewer_settings_goes_on(
    model: LanguageModel, config: TrainConfig, tmp_path: Path
) -> None:
    stop_in_grpo(model, config, tmp_path / "run")
    path = tmp_path / "run" / CHECKPOINT
    header, tensors = read_safetensors(path, "pt")
    kept = json.loads(header["config"])
    del kept["grpo"]["pace"], kept["grpo"]["whitening"]
    write_safetensors(tensors, path, header | {"config": json.dumps(kept)})
    assert isinstance(run(model, config, tmp_path / "run")[-1], WorkFinished)


@pytest.mark.parametrize("reward", ["kl", "nll"])
def test_grpo_runs_alone_with_either_network(
    model: LanguageModel, config: TrainConfig, tmp_path: Path, reward: str
) -> None:
    for kind, budget in (("factored", "price"), ("joint", "penalty")):
        alone = dataclasses.replace(
            config,
            policy=PolicyConfig(network=kind, width=16, num_heads=2),  # type: ignore[arg-type]
            warm_start=WarmStartConfig(texts=0),
            grpo=dataclasses.replace(config.grpo, reward=reward, budget=budget),
        )
        events = run(model, alone, tmp_path / f"{kind}-{reward}")
        assert isinstance(events[-1], WorkFinished)
        assert not (tmp_path / f"{kind}-{reward}" / "labels").exists()


@pytest.mark.parametrize(
    "levels",
    [
        {"channel_keep_ratios": (1.0,), "bit_widths": (16,)},
        {"keep_fractions": (0.7,), "channel_keep_ratios": (0.8, 0.9), "bit_widths": (9, 10)},
        {"keep_fractions": (0.1, 0.2), "channel_keep_ratios": (0.2,), "bit_widths": (2, 3)},
    ],
    ids=["only attention", "high levels", "low levels"],
)
def test_any_grid_with_a_choice_trains(
    model: LanguageModel, config: TrainConfig, tmp_path: Path, levels: dict[str, Any]
) -> None:
    small = dataclasses.replace(
        config,
        grid=dataclasses.replace(GRIDS["default"], **levels),
        warm_start=WarmStartConfig(texts=1, epochs=1),
        grpo=dataclasses.replace(config.grpo, updates=1),
    )
    run(model, small, tmp_path / "run")
    policy = load_policy(tmp_path / "run" / "policy", model)
    assert policy.info.grid == small.grid
    assert math.isfinite(policy.info.summary["held_out"]["kl_static"])


def test_held_out_budgets_are_the_same_wherever_a_grid_holds_them() -> None:
    paper, default = (held_out_budgets(GRIDS[name]) for name in ("paper", "default"))
    assert paper == default == [Budget(0.5, 0.6, 8), Budget(0.4, 0.7, 16), Budget(0.3, 0.5, 7)]


def test_the_warm_start_runs_alone(
    model: LanguageModel, config: TrainConfig, tmp_path: Path
) -> None:
    alone = dataclasses.replace(config, grpo=GrpoConfig(updates=0))
    events = run(model, alone, tmp_path / "run")
    assert isinstance(events[-1], WorkFinished)
    assert events[-1].result["summary"]["updates"] == 0


def test_a_time_limit_ends_early_with_a_policy(
    model: LanguageModel, config: TrainConfig, tmp_path: Path
) -> None:
    short = dataclasses.replace(
        config,
        warm_start=WarmStartConfig(texts=5000),
        grpo=GrpoConfig(updates=5000, windows=1, rollouts=2),
        time_limit_minutes=0.05,
    )
    events = run(model, short, tmp_path / "run")
    assert isinstance(events[-1], WorkFinished)
    assert 0 < events[-1].result["summary"]["labelled_texts"] < 5000


def test_what_cannot_be_trained_is_refused_in_words(
    model: LanguageModel, config: TrainConfig, tmp_path: Path
) -> None:
    def refused(**changes: object) -> str:
        with pytest.raises(SolError) as caught:
            run(model, dataclasses.replace(config, **changes), tmp_path / "run")  # type: ignore[arg-type]
        return str(caught.value)

    assert "more than the context of tiny" in refused(windows=9999)
    assert "warm_start.texts to 0" in refused(policy=PolicyConfig(network="joint", width=16))
    tiny = tmp_path / "tiny.txt"
    tiny.write_text("too short", "utf-8")
    assert "tiny.txt" in refused(corpus=str(tiny))
    binary = tmp_path / "binary.txt"
    binary.write_bytes(bytes(range(256)) * 50)
    with pytest.raises(CorpusError):
        run(model, dataclasses.replace(config, corpus=str(binary)), tmp_path / "run")
    with pytest.raises(ConfigError, match="time_limit_minutes"):
        dataclasses.replace(config, time_limit_minutes=0.0)
    with pytest.raises(ConfigError, match="nothing to do"):
        TrainConfig(warm_start=WarmStartConfig(texts=0), grpo=GrpoConfig(updates=0))
    one = ActionGrid(keep_fractions=(0.5,), channel_keep_ratios=(0.5,), bit_widths=(8,))
    with pytest.raises(ConfigError, match="nothing to choose"):
        TrainConfig(grid=one)
    with pytest.raises(ConfigError, match="quick, standard, share, paper"):
        preset("huge")
    with pytest.raises(ConfigError, match=r"no setting 'epochs'; it has corpus, seed, "):
        preset("quick", epochs=3)
