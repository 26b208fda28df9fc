"""The leaderboard is what its files say, and its files are what was measured."""

import pytest

from docs import leaderboard
from sol_core import EvaluationResult
from sol_core.errors import ConfigError

FILES = sorted(leaderboard.FOLDER.glob("*.json"))


def test_the_page_is_made_from_the_files():
    assert leaderboard.PAGE.read_text("utf-8") == leaderboard.page()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_names_text_machine_bytes_and_intervals(path, tmp_path):
    result = EvaluationResult.load(path)
    assert path.stem.partition("-")[0] in leaderboard.TEXTS
    assert result["corpus_fingerprint"]
    assert result["made_with"]["processor"]
    for budget in result["budgets"]:
        for method in budget["methods"].values():
            assert method["kl_low"] <= method["kl"] <= method["kl_high"]
            assert 0 < method["bytes_share"] <= 1.05
    changed = tmp_path / path.name
    changed.write_text(path.read_text().replace('"kl":', '"kl" :').replace("0.", "0.0", 1))
    with pytest.raises(ConfigError, match="not what was measured"):
        EvaluationResult.load(changed)
