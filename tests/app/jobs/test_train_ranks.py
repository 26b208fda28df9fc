"""``train`` as several processes: started by torchrun, stopped, killed, and gone on with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from app.host.paths import DataDir
from app.host.process_identity import process_id_of
from sol_core.training.checkpoint import read_checkpoint
from storage import JobRecord, Store
from tests.app.tiny_project import PROJECT
from tests.app.waiting import wait_until
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import Family, make_pair

SETTINGS = {
    **{"context": 16, "last_context": "null", "windows": 2, "steps": 4},
    **{"policy.width": 16, "policy.num_heads": 2},
    **{"warm_start.texts": 4, "grpo.updates": 12, "grpo.windows": 2, "grpo.rollouts": 2},
    **{"held_out_texts": 1, "calibration_texts": 2, "checkpoint_seconds": 0},
}
# The program itself, without compiling kernels that the tiny model does not need.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
import sol_core.generation.warm_up
sol_core.generation.warm_up.warm_up_kernels = lambda *_: None
from app.cli import main as cli
sys.exit(cli.main(sys.argv[1:]))
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--main_process_port", "0"),
)
ALONE: tuple[str, ...] = ()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # kernels are compiled first
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name a tiny model and a short text, and the settings."""
    folder = tmp_path_factory.mktemp("inputs")
    reference, _ = make_pair(Family("tiny", LlamaConfig, LlamaForCausalLM, {"vocab_size": 257}))
    reference.save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    (folder / "text.txt").write_text("\n\n".join("the sea was calm " * 4 for _ in range(60)))
    settings = [option for item in SETTINGS.items() for option in ("--set", "{}={}".format(*item))]
    named = ["--model", str(folder / "model"), "--corpus", str(folder / "text.txt")]
    return ["train", "--dtype", "float32", *named, *settings]


@pytest.fixture
def start(data_dir: DataDir, tmp_path: Path) -> Iterator[Start]:
    """Starts the program as two processes, under a launcher; kills what is left at the end."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    started: list[subprocess.Popen[str]] = []

    def begin(
        *arguments: str, launcher: tuple[str, ...] = TORCHRUN, script: Path = program
    ) -> subprocess.Popen[str]:
        variables = {"SOL_DATA_DIR": str(data_dir.root), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, *launcher, str(script), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | variables,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def _ranks_of(torchrun: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    return [int(child) for child in children]


def _wait_for_work(process: subprocess.Popen[str], store: Store, data_dir: DataDir) -> JobRecord:
    """Until the newest job works under this process and has a new checkpoint."""
    known = [path.stat().st_mtime_ns for path in data_dir.jobs.glob("*/checkpoint.safetensors")]

    def is_working() -> bool:
        assert process.poll() is None, process.communicate()
        found = [path.stat().st_mtime_ns for path in data_dir.jobs.glob("*/checkpoint.safetensors")]
        return bool(found) and found != known

    wait_until(is_working, 300)
    return store.jobs.list()[0]


def _network(data_dir: DataDir, job: JobRecord) -> dict[str, torch.Tensor]:
    found = read_checkpoint(data_dir.jobs / job.id, job.params["config"])
    assert found is not None
    assert found[0].phase == "done"
    return {name: value for name, value in found[1].items() if name.startswith("network.")}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_two_processes_are_one_job_and_what_stops_them_changes_nothing(
    start: Start, inputs: list[str], store: Store, data_dir: DataDir, tmp_path: Path
) -> None:
    """A whole run, and one that Ctrl-C and a killed rank leave to one process: the same policy."""
    out, err = start(
        *inputs, "--name", "pair", "--json", "--out", str(tmp_path / "out")
    ).communicate()
    report = json.loads(out)
    assert report["status"] == "succeeded", err
    (whole,) = store.jobs.list()
    _check_one_job(whole, store, report, err)
    assert (tmp_path / "out" / "model.safetensors").is_file()

    process = start(*inputs)
    job = _wait_for_work(process, store, data_dir)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out == ""
    paused = "paused, with a checkpoint; go on here with: python launch.py train --resume "
    assert paused + job.id in err
    assert store.jobs.get(job.id).status == "paused"

    process = start("train", "--resume", job.id)
    job = _wait_for_work(process, store, data_dir)
    (follower,) = set(_ranks_of(process)) - {process_id_of(str(job.worker))}
    os.kill(follower, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out == ""
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "another process of this training has ended" in error
    assert error.endswith(f"go on with: python launch.py train --resume {job.id}")
    assert store.jobs.get(job.id).status == "failed"

    alone = start("train", "--resume", job.id, launcher=ALONE)
    out, err = alone.communicate(timeout=300)
    assert alone.returncode == 0, err
    job = store.jobs.get(job.id)
    assert (job.status, job.params["config"]["grpo"]["texts"]) == ("succeeded", 2)
    for name, value in _network(data_dir, job).items():
        torch.testing.assert_close(value, _network(data_dir, whole)[name], rtol=0, atol=2e-5)


def _check_one_job(job: JobRecord, store: Store, report: dict[str, Any], err: str) -> None:
    assert (job.id, job.status) == (report["job"], "succeeded")
    assert job.params["config"]["grpo"]["texts"] == 2  # one of each process
    assert report["summary"]["train_config"] == job.params["config"]
    said = [line for line in err.splitlines() if " %  " in line]
    assert len(said) > 5
    assert len(said) == len(set(said)), "one process speaks"
    steps = [row["step"] for row in store.jobs.metrics(job.id)]
    assert steps == sorted(set(steps))


def test_an_error_is_said_once_and_ends_all(start: Start) -> None:
    """accelerate's launcher, and ``launch.py`` itself, as a user types it."""
    resume = ("train", "--resume", "0123456789ab")
    process = start(*resume, launcher=ACCELERATE, script=PROJECT / "launch.py")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert out == ""
    assert len(re.findall(r"^error: There is no job", err, re.MULTILINE)) == 1
    assert re.search(r"rank +: 1 ", err)  # the second process's end, in the launcher's report
