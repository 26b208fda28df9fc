"""The few-row CPU path on the real model: the same tokens in fp32, the same likelihood in bf16."""

import pytest
import torch

from kernels.decode_layer import few_row_kernel
from sol_core.actions import Action
from sol_core.models import FrozenLM

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(few_row_kernel() is None, reason="Numba cannot run here"),
]

_TEXT = "The lighthouse keeper climbed the stairs every evening before the sun went down. "


def _reference(lm):
    plain = FrozenLM(lm.spec, lm.weights)
    plain.__dict__["_few_rows"] = None  # the cached property, decided
    return plain


def test_compressed_steps_are_the_references_in_fp32(default_model):
    """Each from the same dense prefix."""
    tokens = default_model.tokenizer(_TEXT * 12)["input_ids"][:160]
    places = range(32, 160, 8)
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
    assert alike >= 0.8 * len(places)
