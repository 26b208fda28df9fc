"""Sampling: seeds, cuts and the repetition penalty."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

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


def test_processors_come_after_the_penalty_and_before_the_temperature() -> None:
    seen: list[tuple[list[int], list[float]]] = []

    def ban_the_best(ids: Tensor, scores: Tensor) -> Tensor:
        seen.append((ids[0].tolist(), scores[0].tolist()))
        assert (ids.dtype, ids.shape[0], scores.dtype) == (torch.int64, 1, torch.float32)
        return scores.masked_fill(scores == scores.max(), -torch.inf)

    config = SamplingConfig(temperature=0.5, repetition_penalty=1.5, top_k=1)
    sampler = TokenSampler(config, [0], [ban_the_best])
    assert [sampler.draw(LOGITS), sampler.draw(LOGITS, given=2)] == [0, 2]
    assert seen[0][0] == [0]
    assert seen[1][0] == [0, 0]
    assert seen[0][1] == pytest.approx([2 / 1.5, 1.0, 0.0, -1.0, 3.0])
    twice = TokenSampler(SamplingConfig(), (), [ban_the_best, ban_the_best])
    assert twice.draw(LOGITS) == 1, "each is given what the one before it returned"
    assert LOGITS[4] == 3.0


def test_processors_of_transformers_are_some() -> None:
    words = transformers.NoBadWordsLogitsProcessor([[4], [0]], eos_token_id=3)
    assert TokenSampler(SamplingConfig(), [1], [words]).draw(LOGITS) == 1
    once = transformers.NoRepeatNGramLogitsProcessor(1)
    sampler = TokenSampler(SamplingConfig(), [4], [once])
    assert [sampler.draw(LOGITS) for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "got NoneType"),
        (torch.zeros(5), r"got \(5,\)"),
        (torch.full((1, 5), -torch.inf), "left no token"),
        (torch.full((1, 5), torch.nan), "left no token"),
    ],
    ids=["nothing", "shape", "none", "nan"],
)
def test_a_processor_that_leaves_nothing_to_draw_is_refused(returned: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TokenSampler(SamplingConfig(), [1], [lambda ids, scores: returned]).draw(LOGITS)
