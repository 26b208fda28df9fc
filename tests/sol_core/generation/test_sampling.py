"""Sampling: seeds, cuts and the repetition penalty."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from sol_core.config import SamplingConfig
from sol_core.errors import ConfigError
from sol_core.generation.sampling import TokenSampler

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 3.0])


def _draw(count: int, **options: float) -> list[int]:
    sampler = TokenSampler(SamplingConfig(**options))  # type: ignore[arg-type]
    return [sampler.draw(LOGITS) for _ in range(count)]


def test_temperature_zero_is_greedy() -> None:
    assert _draw(5, temperature=0) == [4] * 5


def test_the_same_seed_gives_the_same_tokens() -> None:
    assert _draw(40, temperature=1, seed=7) == _draw(40, temperature=1, seed=7)
    assert _draw(40, temperature=1, seed=7) != _draw(40, temperature=1, seed=8)


def test_frequencies_follow_the_softmax() -> None:
    counts = Counter(_draw(4000, temperature=1.0))
    for token, probability in enumerate(torch.softmax(LOGITS, 0).tolist()):
        assert counts[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_top_k_and_top_p_cut_the_tail() -> None:
    assert set(_draw(300, temperature=2.0, top_k=2)) == {0, 4}
    # Probabilities: 0.64, 0.23, 0.09 …; 0.7 needs the first two.
    assert set(_draw(300, temperature=1.0, top_p=0.7)) == {0, 4}
    assert set(_draw(50, temperature=1.0, top_p=0.01)) == {4}


def test_repetition_penalty_moves_on() -> None:
    sampler = TokenSampler(SamplingConfig(repetition_penalty=5.0))
    assert [sampler.draw(LOGITS) for _ in range(3)] == [4, 0, 1]
    assert TokenSampler(SamplingConfig(repetition_penalty=5.0), [4]).draw(LOGITS) == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", -1), ("temperature", float("nan")), ("top_k", -1), ("top_p", 0.0),
     ("top_p", 1.5), ("repetition_penalty", 0.0)],
)  # fmt: skip
def test_bad_values_are_named(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option):
        SamplingConfig(**{option: value})  # type: ignore[arg-type]
