"""Whole training runs on a tiny model: repeatable, resumable, and refusing what cannot work."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from pathlib import Path

import pytest
import torch

from sol_core.actions import GRIDS, ActionGrid, Budget
from sol_core.errors import ConfigError, PolicyError, SolError, TrainingDivergedError
from sol_core.files.staging import read_safetensors, write_safetensors
from sol_core.models.loading import LanguageModel
from sol_core.policy.info import PolicyConfig
from sol_core.policy.policy import load_policy
from sol_core.progress import WorkCheckpoint, WorkFinished, WorkProgress, WorkSample, WorkStopped
from sol_core.training import run_state
from sol_core.training.checkpoint import read_checkpoint
from sol_core.training.config import METRICS, GrpoConfig, TrainConfig, WarmStartConfig, preset
from sol_core.training.held_out import held_out_budgets
from sol_core.training.run_state import RunState
from sol_core.training.trainer import train
from sol_core.training.warm_start import learning_rate_at, read_labels
from tests.support.tiny_training import tiny_train_config

CHECKPOINT = "checkpoint.safetensors"


@pytest.fixture(scope="module", autouse=True)
def checkpoints():
    """One after every unit of work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_state, "CHECKPOINT_S", 0.0)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny_train_config(
        tmp_path_factory.mktemp("corpus"),
        warm_start=WarmStartConfig(texts=3, epochs=2),
        grpo=GrpoConfig(updates=2, windows=2, rollouts=2),
    )


def run(model, config, folder, should_stop=lambda: False, **options):
    options = {"data_dir": folder.parent / "data", "should_stop": should_stop} | options
    return list(train(model, config, folder, **options))


def rows_of(events):
    return [event.row for event in events if isinstance(event, WorkProgress) and event.row]


@pytest.fixture(scope="module")
def uninterrupted(model, config, tmp_path_factory):
    return run(model, config, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def whole(uninterrupted):
    """The weights of an uninterrupted run."""
    finished = uninterrupted[-1]
    return weights(Path(finished.result["folder"]).parent)


def weights(folder):
    return hashlib.sha256((folder / "policy" / "model.safetensors").read_bytes()).hexdigest()


def test_a_run_reports_measures_samples_and_ends_with_a_policy(model, config, uninterrupted):
    events = uninterrupted
    reports = [event for event in events if isinstance(event, WorkProgress)]
    assert reports[0].row is None  # preparing
    rows = rows_of(reports[1:])
    assert [row["step"] for row in rows] == list(range(1, len(reports)))
    phases = list(dict.fromkeys(report.message for report in reports))
    assert phases == ["preparing", "measuring", "labelling", "warm start", "grpo", "calibrating"]
    # Measured before anything is learnt: static, and a policy that is near it.
    first = rows[1]["metrics"]
    assert rows[0]["metrics"] == {} != first
    assert first["kl"] == pytest.approx(first["kl_static"], rel=0.25)
    assert all(0 <= report.fraction <= 1 for report in reports)
    calibrating = [report.fraction for report in reports if report.message == "calibrating"]
    assert calibrating == sorted(set(calibrating))  # the bar moves with every text
    assert {name for row in rows for name in row["metrics"]} == set(METRICS)
    sample = next(event for event in events if isinstance(event, WorkSample))
    assert len(sample.record["tokens"]) == config.steps
    finished = events[-1]
    assert finished.result["summary"]["updates"] == 2
    assert finished.result["summary"]["labelled_texts"] == 3
    policy = load_policy(Path(finished.result["folder"]), model, grid=config.grid)
    assert policy.info.summary["held_out"]["kl"] >= 0
    kinds = {WorkProgress, WorkSample, WorkCheckpoint, WorkFinished}
    assert {type(event) for event in events} == kinds


def test_it_is_measured_every_minute_but_not_for_more_than_a_quarter_of_the_time(
    model, config, tmp_path, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr(run_state.time, "monotonic", lambda: now[-1])
    state = RunState(model, config, tmp_path / "run", tmp_path)
    # After an hour every thirtieth of the time.
    for later, took, waits in ((60, 4.0, 60), (0, 30.0, 90), (3600, 4.0, 130)):
        now.append(now[-1] + later)
        with state.measuring():
            now.append(now[-1] + took)
        now.append(now[-1] + waits - 10)
        assert not state.is_measure_due(1, 99)
        now.append(now[-1] + 20)
        assert state.is_measure_due(1, 99)


def test_the_time_left_goes_by_the_work_and_not_by_what_came_before(
    model, config, tmp_path, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr(run_state.time, "monotonic", lambda: now[-1])
    state = RunState(model, config, tmp_path / "run", tmp_path)
    now.append(now[-1] + 120)  # the first measurement
    assert state.report("measuring").eta_s is None
    state.progress.labelled = 1
    now.append(now[-1] + 10)
    report = state.report("labelling")
    assert report.eta_s == pytest.approx(10 * (1 - report.fraction) / report.fraction)


def test_another_seed_gives_another_policy(model, config, whole, tmp_path):
    run(model, dataclasses.replace(config, seed=1), tmp_path / "other")
    assert whole != weights(tmp_path / "other")


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(model, config, whole, tmp_path):
    for goes_on in (1, 4):
        answers = iter([*[False] * goes_on, *[True] * 99])
        stopped = run(model, config, tmp_path / "parts", answers.__next__)
        assert isinstance(stopped[-1], WorkStopped)
        assert isinstance(stopped[-2], WorkCheckpoint)
    run(model, config, tmp_path / "parts")
    assert whole == weights(tmp_path / "parts")


def stop_in_grpo(model, config, folder):
    rows = []
    options = {"data_dir": folder.parent / "data", "should_stop": lambda: "grpo" in rows}
    for event in train(model, config, folder, **options):
        rows.append(getattr(event, "message", ""))


def test_a_cut_checkpoint_is_passed_over_for_the_one_before_and_two_delete_nothing(
    model, config, whole, tmp_path
):
    folder = tmp_path / "cut"
    stop_in_grpo(model, config, folder)
    intact = (folder / CHECKPOINT).read_bytes()
    for length in (0, 5, 60, len(intact) // 2, len(intact) - 1):
        (folder / CHECKPOINT).write_bytes(intact[:length])
        next(train(model, config, folder, data_dir=tmp_path / "data"))
    kept = {path: path.read_bytes() for path in folder.glob("checkpoint*")}
    for path, content in kept.items():
        path.write_bytes(content[:50])
    with pytest.raises(PolicyError, match="no checkpoint in"):
        run(model, config, folder)
    assert len(list(folder.glob("checkpoint*"))) == len(kept) == 2
    assert len(list((folder / "labels").iterdir())) == 3
    for path, content in kept.items():
        path.write_bytes(content)
    run(model, config, folder)
    assert whole == weights(folder)


def test_a_flipped_bit_is_found(model, config, tmp_path):
    """Two in a checkpoint, in its header's text and in its weights; then in labels, or others'."""
    folder = tmp_path / "flipped"
    stop_in_grpo(model, config, folder)
    path, kind = folder / CHECKPOINT, config.to_dict()
    intact, (last, _) = path.read_bytes(), read_checkpoint(folder, kind)
    for place in (intact.index(b"warm_steps") + 14, len(intact) - 1):
        path.write_bytes(intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :])
        before, _ = read_checkpoint(folder, kind)
        assert before != last
    path.unlink()
    assert read_checkpoint(folder, kind)[0] == before
    labels = sorted((folder / "labels").iterdir())
    content = labels[1].read_bytes()
    for changed, said in (
        (content[:-1] + bytes([content[-1] ^ 1]), "is not what was written"),
        (labels[0].read_bytes(), "of text 0"),
    ):
        labels[1].write_bytes(changed)
        with pytest.raises(PolicyError, match=f"missing or damaged.*{said}"):
            read_labels(labels[1])


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
    model, config, whole, tmp_path, monkeypatch
):
    import safetensors.torch

    save, calls = safetensors.torch.save_file, []

    def filling(tensors, path, *rest):
        calls.append(path)
        if len(calls) > 9:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path, *rest)

    monkeypatch.setattr("safetensors.torch.save_file", filling)
    with pytest.raises(OSError, match="No space"):
        run(model, config, tmp_path / "full")
    monkeypatch.setattr("safetensors.torch.save_file", save)
    assert not list((tmp_path / "full").rglob("*.part"))
    run(model, config, tmp_path / "full")
    assert whole == weights(tmp_path / "full")


def test_divergence_stops_it(model, config, tmp_path):
    folder = tmp_path / "run"
    stop_in_grpo(model, config, folder)
    before = (folder / CHECKPOINT).read_bytes()
    events = train(model, config, folder, data_dir=tmp_path / "data")
    next(events)
    frame = events.gi_frame.f_locals["state"]
    with torch.no_grad():
        frame.policy.network.log_sharpness.fill_(torch.nan)
    with pytest.raises((TrainingDivergedError, RuntimeError)):
        list(events)
    assert (folder / CHECKPOINT).read_bytes() == before


def test_old_settings_go_on(model, config, tmp_path):
    stop_in_grpo(model, config, tmp_path / "run")
    with pytest.raises(PolicyError, match="other settings"):
        run(model, dataclasses.replace(config, seed=9), tmp_path / "run")
    path = tmp_path / "run" / CHECKPOINT
    header, tensors = read_safetensors(path, "pt")
    kept = json.loads(header["config"])
    del kept["grpo"]["pace"], kept["grpo"]["whitening"]
    write_safetensors(tensors, path, header | {"config": json.dumps(kept)})
    assert isinstance(run(model, config, tmp_path / "run")[-1], WorkFinished)


@pytest.mark.parametrize(
    ("network", "reward", "texts", "levels"),
    [
        ("factored", "kl", 1, {"channel_keep_ratios": (1.0,), "bit_widths": (16,)}),
        ("factored", "nll", 0, {}),
        ("joint", "kl", 0, {"keep_fractions": (0.7,), "channel_keep_ratios": (0.8, 0.9)}),
        ("factored", "nll", 1, {"channel_keep_ratios": (0.2,), "bit_widths": (2, 3)}),
        ("joint", "nll", 0, {"keep_fractions": (0.1, 0.2)}),
    ],
)
def test_either_network_trains_for_either_reward_with_any_grid(
    model, config, tmp_path, network, reward, texts, levels
):
    budget = "price" if network == "factored" else "penalty"
    alone = dataclasses.replace(
        config,
        grid=dataclasses.replace(GRIDS["default"], **levels),
        policy=PolicyConfig(network=network, width=16, num_heads=2),
        warm_start=WarmStartConfig(texts=texts, epochs=1),
        grpo=dataclasses.replace(config.grpo, reward=reward, budget=budget, updates=1),
    )
    assert isinstance(run(model, alone, tmp_path / "run")[-1], WorkFinished)
    assert (tmp_path / "run" / "labels").exists() == bool(texts)
    policy = load_policy(tmp_path / "run" / "policy", model)
    assert policy.info.grid == alone.grid
    assert math.isfinite(policy.info.summary["held_out"]["kl_static"])


def test_held_out_budgets_are_the_same_wherever_a_grid_holds_them():
    paper, default = (held_out_budgets(GRIDS[name]) for name in ("paper", "default"))
    assert paper == default == [Budget(0.5, 0.6, 8), Budget(0.4, 0.7, 16), Budget(0.3, 0.5, 7)]


def test_a_short_warm_start_comes_to_its_step_size_too():
    config = WarmStartConfig(learning_rate=1.0)
    for total in (5, 56, 2000):
        rates = [learning_rate_at(step, total, config) for step in range(total)]
        assert max(rates) > 0.9
        assert rates[-1] < 0.2


def test_a_time_limit_ends_early(model, config, tmp_path):
    short = dataclasses.replace(
        config,
        warm_start=WarmStartConfig(texts=5000),
        grpo=GrpoConfig(updates=5000, windows=1, rollouts=2),
        time_limit_minutes=0.05,
    )
    events = run(model, short, tmp_path / "run")
    assert 0 < events[-1].result["summary"]["labelled_texts"] < 5000
    short = dataclasses.replace(preset("quick"), time_limit_minutes=1.5)
    assert short.measured_texts == 2 < preset("quick").measured_texts == 4


def test_what_cannot_be_trained(model, config, tmp_path):
    def refused(**changes):
        with pytest.raises(SolError) as caught:
            run(model, dataclasses.replace(config, **changes), tmp_path / "run")
        return str(caught.value)

    assert "more than the context of tiny" in refused(windows=9999)
    assert "warm_start.texts to 0" in refused(policy=PolicyConfig(network="joint", width=16))
    tiny = tmp_path / "tiny.txt"
    tiny.write_text("too short", "utf-8")
    assert "tiny.txt" in refused(corpus=str(tiny))
    with pytest.raises(ConfigError, match="time_limit_minutes"):
        dataclasses.replace(config, time_limit_minutes=0.0)
    with pytest.raises(ConfigError, match="nothing to do"):
        TrainConfig(warm_start=WarmStartConfig(texts=0), grpo=GrpoConfig(updates=0))
    one = ActionGrid(keep_fractions=(0.5,), channel_keep_ratios=(0.5,), bit_widths=(8,))
    with pytest.raises(ConfigError, match="nothing to choose"):
        TrainConfig(grid=one)
    with pytest.raises(ConfigError, match="quick, standard, paper"):
        preset("huge")
    with pytest.raises(ConfigError, match=r"no setting 'epochs'; did you mean steps"):
        preset("quick", epochs=3)


Series = dict[int, tuple[str, dict[str, float]]]
PHASES = ("labelling", "warm start", "grpo", "calibrating", "measuring")


@dataclasses.dataclass
class Run:
    """A run in one folder, as often as it is started; what its starts reported, by step."""

    model: LanguageModel
    config: TrainConfig
    folder: Path
    series: Series = dataclasses.field(default_factory=dict)

    def start(self, killed_at=None, events_later=0):
        """Go on up to a step, and some events more."""
        torch.manual_seed(killed_at or 0)  # whatever another process has done before
        events = train(self.model, self.config, self.folder, data_dir=self.folder.parent / "data")
        for event in events:
            if isinstance(event, WorkProgress) and event.row is not None:
                step, row = event.row["step"], (event.message, _repeatable(event.row["metrics"]))
                assert self.series.setdefault(step, row) == row
                if step == killed_at:
                    list(itertools.islice(events, events_later))
                    events.close()
                    return
        assert isinstance(event, WorkFinished)

    def state(self):
        """Every number that the run ended with: network in fp32, prices, states."""
        header, tensors = read_safetensors(self.folder / CHECKPOINT, "pt")
        progress = json.loads(header["progress"])
        kept = {name: progress[name] for name in ("prices", "states", "measured")}
        numbers = {name: value.tolist() for name, value in tensors.items()}
        return numbers | kept | {"policy": weights(self.folder)}


def _repeatable(metrics):
    """All but the speed."""
    return {name: value for name, value in metrics.items() if name != "decisions_per_s"}


@pytest.fixture(scope="module")
def long(model, tmp_path_factory):
    """An uninterrupted run of several units in every phase."""
    folder = tmp_path_factory.mktemp("long")
    grpo = GrpoConfig(updates=6, windows=2, rollouts=2)
    config = tiny_train_config(folder, warm_start=WarmStartConfig(texts=4, epochs=5), grpo=grpo)
    run = Run(model, config, folder / "run")
    run.start()
    assert list(run.series) == list(range(1, len(run.series) + 1)), "steps have no gaps"
    assert set(PHASES) == {phase for phase, _ in run.series.values()}
    return run


@pytest.mark.parametrize(
    ("seconds", "later", "steps"),
    [(0.0, 0, slice(0, None, 2)), (0.0, 1, slice(1, None, 2)), (1000.0, 0, slice(0, None, 3))],
)
def test_a_run_that_is_killed_at_every_step_is_the_uninterrupted_one(
    long, tmp_path, monkeypatch, seconds, later, steps
):
    """With a checkpoint after every unit, or phase."""
    monkeypatch.setattr(run_state, "CHECKPOINT_S", seconds)
    run = Run(long.model, long.config, tmp_path / "run")
    for step in list(long.series)[steps]:
        run.start(step, later)
    run.start()
    assert run.series == long.series
    assert run.state() == long.state()
