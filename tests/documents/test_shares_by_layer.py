"""The example of docs/shares_by_layer.py on a tiny model."""

import numpy as np
import pytest

from docs import shares_by_layer
from tests.support.tiny_language_model import make_language_model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_layers_whose_damage_is_greater_keep_more_at_the_same_mean():
    steep = np.array([[0.4, 0.1, 0.02], [0.04, 0.01, 0.002], [0.04, 0.01, 0.002]])
    shares = shares_by_layer.shares_of(steep, 0.6)
    assert shares[0] > shares[1] == shares[2]
    assert np.mean(shares) == pytest.approx(0.6, abs=1e-9)
    assert shares_by_layer.shares_of(np.tile(steep[0], (4, 1)), 0.5) == pytest.approx([0.5] * 4)


def test_a_text_is_measured_and_another_one_compared(tmp_path, monkeypatch, capsys):
    model = make_language_model()
    for name, value in {"CONTEXT": 24, "MEASURED": 8, "SCORED": 64, "MEANS": (0.6,)}.items():
        monkeypatch.setattr(shares_by_layer, name, value)
    monkeypatch.setattr(shares_by_layer, "load_model", lambda: model)
    text = tmp_path / "text.txt"
    text.write_text(" ".join(map(str, range(90))))
    shares_by_layer.main(str(text), str(text))
    assert "60% of the MLP, KL" in capsys.readouterr().out
