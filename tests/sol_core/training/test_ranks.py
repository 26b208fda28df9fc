"""Training over several processes: real ones, by torchrun and by hand, on the tiny model."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sol_core.policy import load_policy
from sol_core.threads import share_cores
from sol_core.training.checkpoint import read_checkpoint
from sol_core.training.config import GrpoConfig, WarmStartConfig
from sol_core.training.ranks import Ranks
from tests.sol_core import ranks_child
from tests.support.tiny_language_model import save_model_folder
from tests.support.tiny_training import tiny_train_config

CHILD = Path(ranks_child.__file__)
PROJECT = CHILD.parents[2]
# fp32 sums in another order: 1.5e-8 was measured. Another text, seed or weight of a rank
# moves weights by 1e-3 (the step size) and more.
WEIGHTS_ATOL, METRICS_RTOL = 1e-6, 1e-5
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Kernels may have to be compiled first, by two processes at a time.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Uneven on purpose: 3 texts to label, 3 a GRPO update, 5 to calibrate, 2 ranks."""
    config = tiny_train_config(
        tmp_path_factory.mktemp("corpus"),
        warm_start=WarmStartConfig(texts=11, epochs=2),
        grpo=GrpoConfig(texts=3, updates=6, windows=2, rollouts=2),
    )
    return dataclasses.replace(config, held_out_texts=2, calibration_texts=5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_model_folder(tmp_path_factory.mktemp("model"), "llama-gqa-tied", starts=False)


@pytest.fixture(scope="module")
def model(saved):
    return ranks_child.load(saved)


@pytest.fixture(scope="module")
def alone(model, config, tmp_path_factory):
    """The folder of a run in one process, with its events beside it."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    events = ranks_child.run(model, config, folder, Ranks())
    (folder / "events.json").write_text(json.dumps(events))
    return folder


@pytest.fixture(scope="module")
def two(config, saved, tmp_path_factory):
    """What two processes made: see ``ranks_child.agree``."""
    folder = tmp_path_factory.mktemp("two")
    torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(CHILD)
    done = subprocess.run(
        [sys.executable, *torchrun, *_arguments("agree", folder, saved, config)],
        env=_environment({"OMP_NUM_THREADS": "1"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return folder


def _arguments(scenario, folder, saved, config):
    return [scenario, str(folder), str(saved), json.dumps(config.to_dict())]


def _environment(changes):
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return kept | {"PYTHONPATH": str(PROJECT)} | changes


def _assert_close(first, second, config):
    """The networks at the end of two runs, as their checkpoints have them, in fp32."""
    ends = [read_checkpoint(folder, config.to_dict()) for folder in (first, second)]
    networks = []
    for end in ends:
        assert end[0].phase == "done"
        networks.append({k: v for k, v in end[1].items() if k.startswith("network.")})
    assert networks[0].keys() == networks[1].keys()
    for name, value in networks[0].items():
        torch.testing.assert_close(value, networks[1][name], rtol=0, atol=WEIGHTS_ATOL)


def test_two_processes_make_the_policy_of_one(model, alone, two, config):
    _assert_close(alone, two / "whole", config)
    ours, theirs = (load_policy(folder / "policy", model) for folder in (alone, two / "whole"))
    for one, other in zip(ours.prices, theirs.prices, strict=True):
        assert one.spends == pytest.approx(other.spends, abs=1e-6)
    assert len(list((two / "whole" / "labels").iterdir())) == 11


def test_two_processes_report_the_metrics_of_one(alone, two):
    ours = json.loads((alone / "events.json").read_text())
    lead, follower = (_said(two, rank)["whole"] for rank in (0, 1))
    for phase in ("warm start", "grpo", "measuring"):
        rows = [
            [event["row"]["metrics"] for event in events if event.get("message") == phase]
            for events in (ours, lead)
        ]
        assert len(rows[0]) == len(rows[1]) >= 2
        for one, other in zip(*rows, strict=True):
            one.pop("decisions_per_s", None)
            other.pop("decisions_per_s", None)
            assert one == pytest.approx(other, rel=METRICS_RTOL, abs=1e-6)
    assert [event.get("message") for event in lead].count("labelling") == 6  # 11 texts, by two
    kinds = [[(event["type"], event.get("message")) for event in e] for e in (lead, follower)]
    assert kinds[0] == kinds[1]


def _said(folder, rank):
    return json.loads((folder / f"rank-{rank}.json").read_text())


def test_any_rank_stops_all_and_one_process_goes_on(model, alone, two, config):
    ends = [_said(two, rank)["stopped"] for rank in (0, 1)]
    assert [events[-1]["type"] for events in ends] == ["WorkStopped", "WorkStopped"]
    found = read_checkpoint(two / "stopped", config.to_dict())
    assert (found[0].phase, found[0].updates) == ("grpo", 1)
    ranks_child.run(model, config, two / "stopped", Ranks())
    _assert_close(alone, two / "stopped", config)


def test_nan_on_one_rank_stops_all_before_anything_is_written(two):
    errors = [_said(two, rank)["poisoned"] for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("TrainingDivergedError: training diverged: a label is not finite")
    assert list((two / "poisoned" / "labels").iterdir()) == []


@pytest.mark.usefixtures("alone")  # which compiles the kernels
@pytest.mark.parametrize(
    ("scenario", "lost", "how"), [("impatient", 1, signal.SIGSTOP), ("patient", 0, signal.SIGKILL)]
)
def test_a_lost_rank_ends_others(config, saved, tmp_path, scenario, lost, how):
    """A stopped one, which only time tells of, and a killed one; nobody supervises them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    pair = []
    for rank in ("0", "1"):
        place = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(CHILD), *_arguments(scenario, tmp_path, saved, config)]
        env = _environment(place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
        pair.append(subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL))
    try:
        while not (tmp_path / "run" / "checkpoint.safetensors").exists():
            assert all(process.poll() is None for process in pair)
            time.sleep(0.05)
        pair[lost].send_signal(how)
        assert pair[1 - lost].wait(timeout=80) == 1  # three minutes of patience are not used up
    finally:
        for process in pair:
            process.kill()
            process.wait()
    said = json.loads((tmp_path / f"rank-{1 - lost}.json").read_text())
    assert said.startswith("RankLostError: another process of this training has ended or does not")
    assert said.endswith("The last checkpoint is kept")


def test_processes_started_together_divide_the_cores(monkeypatch):
    def counts(**variables):
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
