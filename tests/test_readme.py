"""README's Python: all blocks run one after another, and show the whole library."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
# As README shows them both take a minute and more; their length is no business of this test.
SHORTER = {
    'preset("quick"))': 'preset("quick", time_limit_minutes=0.01, held_out_texts=1, '
    "calibration_texts=1, context=32, last_context=64, windows=2), allow_untrained=True)",
    "EvaluationConfig(texts=16,": 'EvaluationConfig(texts=2, context=32, baselines=("static",),',
}


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes where no kernel was compiled before
def test_the_blocks_run(model_data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOL_DATA_DIR", str(model_data_dir))
    names = {}
    for number, block in enumerate(shortened(BLOCKS)):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "Spend(keep_fraction=" in said
    assert len(said.partition("Budget(")[0].split()) > 12, "the question is answered"
    assert "'static':" in said
    assert (tmp_path / "my-policy" / "model.safetensors").is_file()


def shortened(blocks):
    code = "\0".join(blocks)
    for long, short in SHORTER.items():
        assert code.count(long) == 1
        code = code.replace(long, short)
    return code.split("\0")
