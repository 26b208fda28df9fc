"""``train`` as several processes, started by torchrun."""

import json
import os
import subprocess
import sys

import pytest

from tests.app.tiny_project import PROJECT
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import Family, make_pair

SETTINGS = {
    **{"context": 16, "last_context": "null", "windows": 2, "steps": 4},
    **{"policy.width": 16, "policy.num_heads": 2},
    **{"warm_start.texts": 4, "grpo.updates": 12, "grpo.windows": 2, "grpo.rollouts": 2},
    **{"held_out_texts": 1, "calibration_texts": 2},
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
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # kernels are compiled first


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Options that name a tiny model and a short text, and the settings."""
    folder = tmp_path_factory.mktemp("inputs")
    reference, _ = make_pair(Family("tiny", "Llama", {"vocab_size": 257}))
    reference.save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    (folder / "text.txt").write_text("\n\n".join("the sea was calm " * 4 for _ in range(60)))
    settings = [option for item in SETTINGS.items() for option in ("--set", "{}={}".format(*item))]
    named = ["--model", str(folder / "model"), "--corpus", str(folder / "text.txt")]
    return ["train", "--dtype", "float32", "--allow-untrained", *named, *settings]


def test_two_processes_are_one_job(inputs, store, data_dir, tmp_path):
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, *TORCHRUN, str(program), *inputs, "--json", "--out", str(out)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SOL_DATA_DIR": str(data_dir.root), "OMP_NUM_THREADS": "1"},
    )
    report = json.loads(done.stdout)
    assert report["status"] == "succeeded", done.stderr
    (job,) = store.jobs.list()
    assert (out / "model.safetensors").is_file()
    assert (job.id, job.status) == (report["job"], "succeeded")
    assert job.params["config"]["grpo"]["texts"] == 2  # one of each process
    assert report["summary"]["train_config"] == job.params["config"]
    said = [line for line in done.stderr.splitlines() if " %  " in line]
    assert len(said) > 5
    assert len(said) == len(set(said)), "one process speaks"
    steps = [row["step"] for row in store.jobs.metrics(job.id)]
    assert steps == sorted(set(steps))
