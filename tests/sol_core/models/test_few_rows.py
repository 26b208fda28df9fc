"""The few-row CPU path on the real model against the reference: equal steps in fp32; in bf16, whose
rounding tips other choices, equal dense steps and the same likelihood of compressed ones."""

from dataclasses import replace

import pytest
import torch

from kernels.decode_layer import few_row_kernel
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.models import FrozenLM

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(few_row_kernel() is None, reason="Numba cannot run here"),
]

_TEXT = "The lighthouse keeper climbed the stairs every evening before the sun went down. "
# The paper's take the reference everywhere; a previewed head has logits of its own.
_HOW = replace(GRIDS["default"].mechanisms, head="whole")


def _reference(lm):
    plain = FrozenLM(lm.spec, lm.weights)
    plain.__dict__["_few_rows"] = None  # the cached property, decided
    return plain


def _log_probabilities(model, action):
    """Of steps from the same dense prefixes: [compiled or reference, place, V]."""
    tokens = model.tokenizer(_TEXT * 12)["input_ids"][:160]
    fast = model.lm
    plain = _reference(fast)
    cache = fast.new_cache(1, len(tokens))
    fast.prefill(torch.tensor([tokens[:-1]]), cache)
    steps = []
    for place in reversed(range(32, 160, 8)):
        fed, pair = torch.tensor([tokens[place]]), []
        for lm in (fast, plain):
            cache.truncate(place)
            pair.append(lm.decode_step(fed, cache, action, mechanisms=_HOW).logits[0])
        steps.append(torch.stack(pair).float().log_softmax(-1))
    return torch.stack(steps, 1)


def test_dense_steps_are_the_references(either_model):
    fast, plain = _log_probabilities(either_model, DENSE)
    assert not torch.equal(fast, plain), "another program"
    assert torch.equal(fast.argmax(-1), plain.argmax(-1))
    assert (plain.exp() * (plain - fast)).sum(-1).max() < 1e-3


def test_compressed_steps_are_the_references(either_model):
    fast, plain = _log_probabilities(either_model, Action(0.5, 0.5))
    kl = (plain.exp() * (plain - fast)).sum(-1)
    if either_model.dtype_name == "float32":
        alike = (fast - plain).abs().amax(-1) < 1e-3
        assert not torch.equal(fast, plain), "another program"
        assert alike.float().mean() >= 0.8
        assert torch.equal(fast.argmax(-1)[alike], plain.argmax(-1)[alike])
    assert kl.median() < 0.05
