"""The diffs of ``docs/extending.md`` apply to this release, and the forks that they make work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DIFFS = re.findall(
    r"^```diff\n(.*?)^```", (PROJECT / "docs" / "extending.md").read_text("utf-8"), re.M | re.S
)
FAMILY = """
import torch
from transformers import SeedOssConfig, SeedOssForCausalLM
from sol_core import GenerationConfig, from_transformers, generate
from tests.support.tiny_language_model import byte_tokenizer
torch.manual_seed(0)
sizes = {"vocab_size": 257, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
theirs = SeedOssForCausalLM(SeedOssConfig(**sizes, **heads, initializer_range=0.2)).eval()
tokenizer = byte_tokenizer()
ids = torch.tensor([tokenizer("Once upon a time")["input_ids"]])
made = theirs.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None)
config = GenerationConfig(ignore_end_of_text=True, max_new_tokens=8)
ours = generate(from_transformers(theirs, tokenizer), "Once upon a time", config=config)
assert [token.token_id for token in ours.tokens] == made[0, ids.shape[1]:].tolist()
"""
REWARD = """
from pathlib import Path
from sol_core import GrpoConfig, WarmStartConfig, train
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_training import tiny_train_config
config = tiny_train_config(
    Path.cwd(), warm_start=WarmStartConfig(texts=1, epochs=1),
    grpo=GrpoConfig(updates=1, windows=2, rollouts=2, reward="capped"),
)
train(make_language_model(), "run", config, data_dir="data", allow_untrained=True)
assert '"capped"' in Path("run/policy/config.json").read_text()
"""


@pytest.mark.parametrize("code", [FAMILY, REWARD], ids=["family", "reward"])
def test_a_fork_of_the_document_works(code, tmp_path):
    for name in ("sol_core", "kernels", "tests/support"):
        shutil.copytree(PROJECT / name, tmp_path / "fork" / name)
    for diff in DIFFS:
        _apply(diff, tmp_path / "fork")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=kept | {"PYTHONPATH": str(tmp_path / "fork")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _apply(diff, root):
    """Replace what each hunk takes out, which must be there once; its place is not looked at."""
    for path, hunk in re.findall(
        r"^--- a/(\S+)\n\+\+\+ .*\n@@.*\n((?:[-+ ].*\n)+?)(?=---|\Z)", diff, re.M
    ):
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
        text = (root / path).read_text("utf-8")
        assert text.count(before) == 1, f"{path} has no such lines:\n{before}"
        (root / path).write_text(text.replace(before, after), "utf-8")
