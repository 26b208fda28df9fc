"""The few-row CPU path on the real model: the same tokens in fp32, the same likelihood in bf16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kernels.decode_layer import few_row_kernel
from sol_core.actions import DENSE, Action
from sol_core.models import FrozenLM
from sol_core.models.loading import LanguageModel, load_language_model

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(few_row_kernel() is None, reason="Numba cannot run here"),
]

_TEXT = "The lighthouse keeper climbed the stairs every evening before the sun went down. "


def _reference(lm: FrozenLM) -> FrozenLM:
    plain = FrozenLM(lm.spec, lm.weights)
    plain.__dict__["_few_rows"] = None  # the cached property, decided
    return plain


def _greedy(lm: FrozenLM, prompt: list[int], action: Action, count: int) -> list[int]:
    cache = lm.new_cache(1, len(prompt) + count)
    lm.prefill(torch.tensor([prompt[:-1]]), cache)
    tokens = [prompt[-1]]
    for _ in range(count):
        logits = lm.decode_step(torch.tensor(tokens[-1:]), cache, action).logits
        tokens.append(int(logits.argmax()))
    return tokens[1:]


def test_greedy_tokens_are_the_references_in_fp32(default_model: LanguageModel) -> None:
    """Past 128 cached tokens; a wrong sum shows within a few."""
    prompt = default_model.tokenizer(_TEXT * 3)["input_ids"]
    lm = default_model.lm
    assert _greedy(lm, prompt, DENSE, 96) == _greedy(_reference(lm), prompt, DENSE, 96)


def test_compressed_steps_are_the_references_in_fp32(default_model: LanguageModel) -> None:
    """Each from the same dense prefix. Now and then the last digit of a sum decides which of two
    channels of nearly the same magnitude is kept; that step is another one from there on.
    """
    tokens = default_model.tokenizer(_TEXT * 12)["input_ids"][:160]
    places = range(32, 160, 3)
    fast, action = default_model.lm, Action(0.5, 0.5)
    cache = fast.new_cache(1, len(tokens))
    fast.prefill(torch.tensor([tokens]), cache)
    alike = 0
    for place in places:
        logits = []
        for lm in (fast, _reference(fast)):
            cache.truncate(place)
            logits.append(lm.decode_step(torch.tensor([tokens[place]]), cache, action).logits[0])
        if (logits[0] - logits[1]).abs().max() < 1e-3:
            alike += 1
            assert logits[0].argmax() == logits[1].argmax()
        cache.truncate(place)
        fast.prefill(torch.tensor([tokens[place : place + places.step]]), cache)
    assert alike >= 0.9 * len(places)


def _mean_nll(lm: FrozenLM, tokens: list[int], start: int) -> float:
    cache = lm.new_cache(1, len(tokens))
    lm.prefill(torch.tensor([tokens[:start]]), cache)
    total = 0.0
    for now, following in zip(tokens[start:-1], tokens[start + 1 :], strict=True):
        logits = lm.decode_step(torch.tensor([now]), cache).logits
        total -= float(torch.log_softmax(logits, -1)[0, following])
    return total / (len(tokens) - start - 1)


def test_bf16_likelihood_is_the_references(model_data_dir: Path) -> None:
    model = load_language_model(data_dir=model_data_dir, dtype="bfloat16", device="cpu")
    text = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    tokens = model.tokenizer(text)["input_ids"][:112]
    found, expected = (_mean_nll(lm, tokens, 32) for lm in (model.lm, _reference(model.lm)))
    assert found == pytest.approx(expected, abs=0.01)
