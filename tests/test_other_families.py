"""Models of other families, from ``train`` to ``inspect``, on the command line of another process.

Random weights of a few kilobytes as Hugging Face folders: Qwen3 (norms on queries and keys,
untied head) and Gemma 3 (windows, tied embeddings, a beginning-of-text token); a short context
and no chat template. ``docs/results.md`` has the same with a real Gemma 3.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny_language_model import CONTEXT_LENGTH, save_model_folder

PROJECT = Path(__file__).resolve().parents[1]
# Runs several commands one after another.
CHILD = """
import json, sys
from app.cli import main as cli
for command in json.loads(sys.argv[1]):
    if cli.main(command):
        sys.exit(f"{command} failed")
"""
TRAINING = {
    "context": 40, "last_context": "null", "windows": 3, "steps": 8, "warm_start.texts": 2,
    "grpo.updates": 2, "grpo.rollouts": 4, "held_out_texts": 1, "calibration_texts": 1,
}  # fmt: skip


def _run(data_dir, *commands):
    """The JSON that each command printed, one after another in one process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(commands)],
        cwd=PROJECT,
        env=os.environ | {"SOL_DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(900)  # kernels are compiled first
@pytest.mark.parametrize(("name", "starts"), [("qwen3", False), ("gemma3", True)])
def test_a_model_of_another_family_goes_all_the_way(tmp_path, name, starts):
    model = ["--model", str(save_model_folder(tmp_path / "model", name, starts=starts)), "--json"]
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"Paragraph {n}: water is wet, and fire is not." * 3 for n in range(40))
    )
    settings = [f"--set={key}={value}" for key, value in TRAINING.items()]
    source = ["--corpus", str(text)]
    sizes = ["--texts", "2", "--context", "40", "--steps", "8", "--baselines", "static"]
    harder = ["--budgets", "0.5,0.6,8;0.3,0.45,6"]
    budget = ["--keep", "0.5", "--channels", "0.6", "--bits", "8"]
    trained, evaluated, generated, inspected = _run(
        tmp_path / "data",
        ["train", "--preset=quick", "--allow-untrained", *settings, *source, "--name=mine", *model],
        ["evaluate", "mine", *source, *sizes, *harder, *model],
        ["generate", "Water", "--schedule", "policy:mine", *budget, "--max-new-tokens=12", *model],
        ["inspect", str(text), "--schedules", "dense,static,policy:mine", *budget, *model],
    )
    assert (trained["status"], trained["policy"]) == ("succeeded", "mine")
    for record in evaluated["budgets"]:
        assert {"mine", "static", "dense"} <= set(record["methods"])
        policy, static = (record["methods"][method]["spend"] for method in ("mine", "static"))
        for axis, size in (("keep", 1), ("channels", 1), ("bits", 16)):
            assert abs(policy[axis] - static[axis]) / size < 0.05
    tokens = [event for event in generated["events"] if event["type"] == "token"]
    assert len(tokens) == 12
    assert {token["action"]["keep_fraction"] for token in tokens} != {1.0}
    assert len(inspected["tokens"]) == CONTEXT_LENGTH
