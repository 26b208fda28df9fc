"""Every family under small budgets, its fingerprint, and the short ends of contexts."""

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig

from sol_core.actions import GRIDS, Action
from sol_core.errors import ContextLengthError
from sol_core.models import spec_from_config
from sol_core.models.loading import fingerprint_of
from tests.support.tiny_models import FAMILIES, family_of, make_pair


# Just below a level of 1 a count keeps every page; groups that read what they need do not.
@pytest.mark.parametrize("grid", ["paper", "default"])
@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_a_smaller_budget_changes_a_step_and_nothing_kept_is_dense(name, grid):
    """A fifth of the pages, half the channels, 5 bits."""
    _, lm = make_pair(family_of(name))
    prefix, token = lm.new_cache(1, 40), torch.tensor([7])
    lm.prefill(torch.arange(3, 43)[None], prefix)

    def logits(action):
        how = GRIDS[grid].mechanisms
        return lm.decode_step(token, prefix.branch(1, 1), action, mechanisms=how).logits

    dense = logits(Action())
    hair = 1.0 if grid == "default" or any(lm.spec.windows) else 0.999
    torch.testing.assert_close(logits(Action(hair, 0.999)), dense, rtol=0, atol=1e-4)
    for action in (Action(0.2), Action(1.0, 0.5), Action(1.0, 1.0, 5)):
        assert (logits(action) - dense).abs().max() > 1e-3, action


def test_fingerprints_are_those_of_before_there_were_these_families():
    """Policies are bound to them."""
    weights = {"x": torch.arange(10.0)}
    found = [
        fingerprint_of(spec_from_config(c), weights) for c in (LlamaConfig(), Gemma3TextConfig())
    ]
    assert found == ["40c52b937b35ccf68179351e914dc25a", "451567035336adb97b190fd9cbc7d39f"]


@pytest.mark.parametrize("name", ["longrope", "dynamic-rope"])
def test_a_rope_that_changes_with_length_ends_the_context_where_it_does(name):
    context = {} if name == "longrope" else {"max_position_embeddings": 64}
    theirs, lm = make_pair(family_of(name, **context))
    assert lm.spec.max_positions == 64
    tokens, cache = torch.randint(3, 199, (1, 65)), lm.new_cache(1, 72)
    lm.prefill(tokens[:, :63], cache)
    found = lm.decode_step(tokens[:, 63], cache).logits
    with torch.no_grad():
        torch.testing.assert_close(found, theirs(tokens[:, :64]).logits[:, -1], rtol=0, atol=1e-4)
    with pytest.raises(ContextLengthError, match="65 tokens exceed the model's context of 64"):
        lm.decode_step(tokens[:, 64], cache)
