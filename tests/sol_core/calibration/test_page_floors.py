"""Floors measured on a text make steps on that text read what their level says."""

from __future__ import annotations

import pytest
import torch

from sol_core.actions import GRIDS, Action
from sol_core.comparing.measuring import measure_page_floors
from sol_core.errors import ConfigError
from tests.support.tiny_language_model import make_language_model

NEED = GRIDS["need"].mechanisms


def _text(count: int) -> list[int]:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 250, (count,), generator=generator).tolist()


def test_steps_read_the_level_in_the_mean() -> None:
    model, text, levels = make_language_model(), _text(141), (0.2, 0.4, 0.7)
    lm = model.lm
    lm.page_thresholds = measure_page_floors(model, [text], levels=levels)
    assert lm.page_thresholds.contexts == (64, 128)
    assert lm.page_thresholds.fingerprint == model.fingerprint
    prefix = lm.new_cache(1, len(text))
    lm.prefill(torch.tensor([text]), prefix)
    lengths = list(range(117, 140))
    for level in levels:
        rows = prefix.branch(1, 8, lengths=lengths, sources=[0] * len(lengths))
        fed = torch.tensor([text[length] for length in lengths])
        read = lm.decode_step(fed, rows, Action(level, 1.0), mechanisms=NEED).tokens_read
        seen = torch.tensor(lengths)[:, None] + 1
        share = (read / (lm.spec.num_kv_heads * seen)).mean()
        assert share.item() == pytest.approx(level, abs=0.03)


def test_longer_contexts_than_the_texts_are_left_out() -> None:
    model = make_language_model()
    assert measure_page_floors(model, [_text(70)], levels=(0.5,)).contexts == (64,)
    with pytest.raises(ConfigError, match="64"):
        measure_page_floors(model, [_text(63)])
