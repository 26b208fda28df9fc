"""``bench decode`` on a card, on a CPU in its place: every contestant is in the line."""

import pytest
import torch

from app.bench import card_decode
from app.bench.card_decode import bench_on_card
from app.bench.random_model import ModelShape
from sol_core.actions import DEFAULT_GRID, grid_named

TINY = ModelShape("tiny", 40, 64, 96, 3, 4, 2, 16)


@pytest.mark.filterwarnings("ignore")  # of transformers, about its static cache
def test_every_contestant_is_in_the_line_to_send_back(monkeypatch, tmp_path):
    monkeypatch.setattr(card_decode, "_NEW_TOKENS", 4)
    given = torch.device("cpu"), torch.float32, grid_named(DEFAULT_GRID), lambda *_: None
    made = bench_on_card(*given, data_dir=tmp_path, shapes=[TINY], contexts=[24, 40])
    rows = made["tokens_per_s"]
    assert [row["context"] for row in rows] == [24, 40]
    for row in rows:
        assert set(row) == {"model", "context", "dense", "80%", "65%", "50%", "transformers"}
    assert made["send_back"].count("transformers") == 2
    assert "tiny 24: dense" in made["send_back"]
