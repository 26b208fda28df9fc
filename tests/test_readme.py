"""README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
# Training as README shows it takes a minute and more; its length is no business of this test.
TRAINING, SHORTER = (
    "time_limit_minutes=1)",
    "time_limit_minutes=0.02, held_out_texts=1, calibration_texts=2)",
)


def test_the_library_is_shown() -> None:
    shown = "".join(BLOCKS)
    for name in ("load_model(", "load_policy(", "generate(", "score(", "train(", "evaluate("):
        assert name in shown


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes where no kernel was compiled before
def test_the_blocks_run(
    model_data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOL_DATA_DIR", str(model_data_dir))
    names: dict[str, object] = {}
    assert sum(block.count(TRAINING) for block in BLOCKS) == 1
    for number, block in enumerate(BLOCKS):
        code = block.replace(TRAINING, SHORTER)
        exec(compile(code, f"README.md, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "Budget(keep_fraction=" in said
    assert "'static':" in said
    assert (tmp_path / "my-policy" / "model.safetensors").is_file()
