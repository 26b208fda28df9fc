"""README's Python: every block is short, and all of them run one after another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
MOST_LINES = 5


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_is_short(number: int) -> None:
    lines = [line for line in BLOCKS[number].splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    ast.parse(BLOCKS[number])


def test_the_library_is_shown() -> None:
    shown = "".join(BLOCKS)
    for name in ("load_model(", "load_policy(", "generate(", "score(", "train(", "evaluate("):
        assert name in shown


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute of training, and minutes where no kernel was compiled before
def test_the_blocks_run(
    model_data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOL_DATA_DIR", str(model_data_dir))
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "Budget(keep_fraction=" in said
    assert "'static':" in said
    assert (tmp_path / "my-policy" / "model.safetensors").is_file()
