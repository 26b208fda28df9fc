"""Training over several processes: real ones, by torchrun and by hand, on the tiny model."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch

from sol_core.errors import ConfigError, RankLostError
from sol_core.models.loading import LanguageModel
from sol_core.policy import load_policy
from sol_core.threads import share_cores
from sol_core.training.checkpoint import read_checkpoint
from sol_core.training.config import TrainConfig
from sol_core.training.joining import join_ranks, num_ranks
from sol_core.training.ranks import Ranks
from tests.sol_core import ranks_child
from tests.sol_core.ranks_fork import run_rank
from tests.support.tiny_language_model import save_model_folder

CHILD = Path(ranks_child.__file__)
PROJECT = CHILD.parents[2]
# fp32 sums in another order: 1.5e-8 was measured. Another text, seed or weight of a rank
# moves weights by 1e-3 (the step size) and more.
WEIGHTS_ATOL, METRICS_RTOL = 1e-6, 1e-5
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Kernels may have to be compiled first, by two processes at a time.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = tmp_path_factory.mktemp("corpus") / "text.txt"
    words = ("the", "sea", "was", "calm", "and", "light", "of", "lamp", "went", "over", "water")
    lines = [" ".join(words[(i * k) % len(words)] for k in range(1, 40)) for i in range(1, 80)]
    text.write_text("\n\n".join(lines), "utf-8")
    return text


@pytest.fixture(scope="module")
def config(corpus: Path) -> TrainConfig:
    return ranks_child.tiny_config(corpus)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model_folder(tmp_path_factory.mktemp("model"), "llama-gqa-tied", starts=False)


@pytest.fixture(scope="module")
def model(saved: Path) -> LanguageModel:
    return ranks_child.load(saved)


@pytest.fixture(scope="module")
def alone(
    model: LanguageModel, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run in one process, with its events beside it."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    events = ranks_child.run(model, config, folder, Ranks())
    (folder / "events.json").write_text(json.dumps(events))
    return folder


@pytest.fixture(scope="module")
def two(corpus: Path, saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made: see ``ranks_child.agree``."""
    folder = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(CHILD), "agree", str(folder), str(corpus)),
            str(saved),
        ],
        env=_environment({"OMP_NUM_THREADS": "1"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return folder


def _environment(changes: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return kept | {"PYTHONPATH": str(PROJECT)} | changes


def _assert_close(first: Path, second: Path, config: TrainConfig) -> None:
    """The networks at the end of two runs, as their checkpoints have them, in fp32."""
    ends = [read_checkpoint(folder, config.to_dict()) for folder in (first, second)]
    networks = []
    for end in ends:
        assert end is not None
        assert end[0].phase == "done"
        networks.append({k: v for k, v in end[1].items() if k.startswith("network.")})
    assert networks[0].keys() == networks[1].keys()
    for name, value in networks[0].items():
        torch.testing.assert_close(value, networks[1][name], rtol=0, atol=WEIGHTS_ATOL)


def test_two_processes_make_the_policy_of_one(
    model: LanguageModel, alone: Path, two: Path, config: TrainConfig
) -> None:
    _assert_close(alone, two / "whole", config)
    ours, theirs = (load_policy(folder / "policy", model) for folder in (alone, two / "whole"))
    for one, other in zip(ours.prices, theirs.prices, strict=True):
        assert one.spends == pytest.approx(other.spends, abs=1e-6)
    for one, other in zip(ours.correction.weights, theirs.correction.weights, strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert sorted(path.name for path in (two / "whole" / "labels").iterdir()) == [
        f"{number:05d}.safetensors" for number in range(11)
    ]


@pytest.mark.parametrize("phase", ["warm start", "grpo", "measuring"])
def test_two_processes_report_the_metrics_of_one(alone: Path, two: Path, phase: str) -> None:
    ours = json.loads((alone / "events.json").read_text())
    theirs = json.loads((two / "rank-0.json").read_text())["whole"]
    rows = [
        [event["row"]["metrics"] for event in events if event.get("message") == phase]
        for events in (ours, theirs)
    ]
    assert len(rows[0]) == len(rows[1]) >= 2
    for one, other in zip(*rows, strict=True):
        one.pop("decisions_per_s", None)
        other.pop("decisions_per_s", None)
        assert one == pytest.approx(other, rel=METRICS_RTOL, abs=1e-6)


def test_ranks_label_side_by_side_and_see_the_same_events(two: Path) -> None:
    lead, follower = (
        json.loads((two / f"rank-{rank}.json").read_text())["whole"] for rank in (0, 1)
    )
    assert [event.get("message") for event in lead].count("labelling") == 6  # 11 texts, by two
    kinds = [[(event["type"], event.get("message")) for event in e] for e in (lead, follower)]
    assert [kind for kind in kinds[0]] == [kind for kind in kinds[1]]
    ours, theirs = (events[-1]["result"]["summary"] for events in (lead, follower))
    assert ours["held_out"] == theirs["held_out"]


def test_any_rank_stops_all_and_one_process_goes_on(
    model: LanguageModel, alone: Path, two: Path, config: TrainConfig
) -> None:
    ends = [json.loads((two / f"rank-{rank}.json").read_text())["stopped"] for rank in (0, 1)]
    assert [events[-1]["type"] for events in ends] == ["WorkStopped", "WorkStopped"]
    found = read_checkpoint(two / "stopped", config.to_dict())
    assert found is not None
    assert (found[0].phase, found[0].updates) == ("grpo", 1)
    ranks_child.run(model, config, two / "stopped", Ranks())
    _assert_close(alone, two / "stopped", config)


def test_nan_on_one_rank_stops_all_before_anything_is_written(two: Path) -> None:
    errors = [json.loads((two / f"rank-{rank}.json").read_text())["poisoned"] for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("TrainingDivergedError: training diverged: a label is not finite")
    assert list((two / "poisoned" / "labels").iterdir()) == []


Pair = list[ForkServerProcess]


@pytest.fixture
def start_pair(alone: Path, corpus: Path, saved: Path) -> Iterator[Callable[[str, Path], Pair]]:
    """Starts two ranks that nobody supervises; returns when they are in the midst of work.

    They are forks of a process that has imported all, and ``alone`` has had the kernels compiled:
    neither is long in coming.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.sol_core.ranks_fork"])
    started: Pair = []

    def start(scenario: str, folder: Path) -> Pair:
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        pair: Pair = []
        for rank in ("0", "1"):
            place = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank}
            arguments = [scenario, *map(str, (folder, corpus, saved))]
            given = place | address, folder / f"stderr-{rank}", arguments
            pair.append(server.Process(target=run_rank, args=given))
            pair[-1].start()
        started.extend(pair)
        _wait(lambda: (folder / "run" / "checkpoint.safetensors").exists(), pair)
        return pair

    yield start
    for process in started:
        process.kill()
        process.join()


def _wait(reached: Callable[[], bool], processes: Pair) -> None:
    ends_at = time.monotonic() + 200
    while not reached():
        assert time.monotonic() < ends_at
        assert all(process.is_alive() for process in processes)
        time.sleep(0.05)


def test_a_lost_rank_ends_the_others_in_words(
    start_pair: Callable[[str, Path], Pair], tmp_path: Path
) -> None:
    """A stopped one, which only time tells of, and while that passes killed ones of others."""
    losses = (("impatient", 1, signal.SIGSTOP), *(("patient", n, signal.SIGKILL) for n in (1, 0)))
    left: list[tuple[ForkServerProcess, Path]] = []
    for scenario, lost, how in losses:
        folder = tmp_path / f"{scenario}-{lost}"
        pair = start_pair(scenario, folder)
        os.kill(pair[lost].pid or 0, how)
        left.append((pair[1 - lost], folder / f"rank-{1 - lost}.json"))
    for process, report in reversed(left):
        process.join(timeout=80)  # three minutes of patience are not used up
        assert process.exitcode == 1
        said = json.loads(report.read_text())
        wanted = "RankLostError: another process of this training has ended or does not"
        assert said.startswith(wanted), report
        assert said.endswith("The last checkpoint is kept")


def test_one_process_is_all_ranks_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with join_ranks() as ranks:
        assert (ranks.rank, ranks.size, ranks.is_lead, ranks.device) == (0, 1, True, "auto")
        assert ranks.split(range(3), lambda n: n * n) == ranks.collect(range(3), lambda n: n * n)
        assert ranks.share(range(3)) == range(3)
        assert [ranks.any(True), ranks.any(False)] == [True, False]
        values = torch.tensor([1.0, 2.0])
        ranks.add(values)
        assert values.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x"}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE must be a whole number"),
        ({"WORLD_SIZE": "0"}, "at least 1"),
    ],
)
def test_variables_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=named), join_ranks():
        pass


def test_an_address_where_nobody_answers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert num_ranks() == 2
    with pytest.raises(RankLostError, match="another process"), join_ranks(timedelta(seconds=1)):
        pass


def test_processes_started_together_divide_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def counts(**variables: str) -> tuple[str | None, str | None]:
        with monkeypatch.context() as patch:
            for name in ("LOCAL_WORLD_SIZE", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
                patch.delenv(name, raising=False)
            patch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
            patch.setattr(os, "environ", dict(os.environ) | variables)
            share_cores()
            return os.environ.get("OMP_NUM_THREADS"), os.environ.get("NUMBA_NUM_THREADS")

    assert counts() == (None, None)
    assert counts(LOCAL_WORLD_SIZE="1") == (None, None)
    assert counts(LOCAL_WORLD_SIZE="2") == ("4", "4")
    assert counts(LOCAL_WORLD_SIZE="16") == ("1", "1")
    assert counts(LOCAL_WORLD_SIZE="2", OMP_NUM_THREADS="3") == ("3", "3")
