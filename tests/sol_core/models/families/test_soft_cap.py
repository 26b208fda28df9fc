"""Attention with capped scores: without a cap's trace where it is far, the formula where not."""

import pytest
import torch

from kernels.key_codes import encode_keys
from kernels.page_attention import AttentionPlan, KVBlock, attend
from sol_core.actions import GRIDS, Action
from sol_core.models.signals import Observe
from tests.support.tiny_models import make_tiny_lm

ALL = Observe.CONCENTRATION


ROWS, HEADS, KV_HEADS, SIZE, PAGE = 4, 6, 2, 16, 8


def _block(sequences, tokens):
    keys, values = torch.randn(2, sequences, KV_HEADS, tokens, SIZE).unbind()
    return KVBlock(keys, values, None, *encode_keys(keys))


def _plan(grid, kept, tokens):
    """Every row sees all but its own number of first tokens."""
    valid = torch.arange(tokens) >= torch.arange(ROWS)[:, None] * 3
    pages = valid.unflatten(1, (-1, PAGE)).any(-1)
    budget = None if kept is None else torch.tensor(kept)
    how = GRIDS[grid].mechanisms
    return AttentionPlan(PAGE, valid, pages, budget, None, how.scorer, how.page_choice)


@pytest.mark.parametrize("kept", [None, [1, 2, 3, 9]])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_cap_out_of_reach_is_none(grid, kept):
    query, blocks = torch.randn(ROWS, HEADS, SIZE), [_block(2, 32), _block(4, 24)]
    plan = _plan(grid, kept, 56)
    expected = attend(query, blocks, plan).mixed
    found = attend(query, blocks, plan, cap=1e6).mixed
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    near = attend(query, blocks, plan, cap=0.5).mixed
    assert (near - expected).abs().max() > 0.1


@pytest.mark.parametrize("name", ["llama-gqa-tied", "gemma2", "olmo2", "phi3-longrope"])
@pytest.mark.parametrize("grid", GRIDS)
def test_rows_behind_a_shared_prefix_are_the_same_rows_alone(name, grid):
    lm, how = make_tiny_lm(name), GRIDS[grid].mechanisms
    prefix = lm.new_cache(1, 33)
    lm.prefill(torch.arange(3, 36)[None], prefix)
    actions = [Action(), Action(0.3, 0.6), Action(0.5)]
    shared, own = prefix.branch(3, 4), [prefix.branch(1, 4) for _ in actions]
    for token in (5, 6, 7):
        fed = torch.full((3,), token)
        found = lm.decode_step(fed, shared, actions, mechanisms=how, observe=ALL)
        for row, (cache, action) in enumerate(zip(own, actions, strict=True)):
            alone = lm.decode_step(fed[:1], cache, action, mechanisms=how, observe=ALL)
            for name in ("logits", "attention_concentration"):
                mine, right = getattr(found, name)[row], getattr(alone, name)[0]
                torch.testing.assert_close(mine, right, rtol=0, atol=2e-4)
