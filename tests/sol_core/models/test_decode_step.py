"""Invariants of the compressed decode step and of the KV cache."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.actions import DENSE, GRIDS, Action, ActionGrid, Mechanisms
from sol_core.errors import ConfigError, ContextLengthError, ShapeError
from sol_core.fields import from_json
from sol_core.models.signals import Observe
from tests.support.tiny_models import make_tiny_lm

ALL = Observe.CONCENTRATION

actions = st.builds(
    Action,
    st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]),
    st.sampled_from([0.4, 0.65, 1.0]),
    st.integers(2, 16),
)


@pytest.fixture(scope="module")
def lm():
    return make_tiny_lm()


def _prompt(length, rows=1, seed=1):
    return torch.randint(3, 199, (rows, length), generator=torch.Generator().manual_seed(seed))


@given(others=st.lists(actions, min_size=2, max_size=2))
@settings(max_examples=25)
def test_a_dense_row_does_not_feel_its_neighbours(others):
    lm = make_tiny_lm()
    prefix = lm.new_cache(1, 21)
    lm.prefill(_prompt(21), prefix)
    token = torch.tensor([7, 7, 7])
    how = {"mechanisms": GRIDS["default"].mechanisms}
    alone = lm.decode_step(token, prefix.branch(3, 1), DENSE, **how)
    mixed = lm.decode_step(token, prefix.branch(3, 1), [DENSE, *others], **how)
    assert torch.equal(mixed.logits[0], alone.logits[0])


@pytest.mark.parametrize("rows", [1, 17])
@pytest.mark.parametrize("grid", GRIDS)
def test_what_no_kernel_serves_is_computed_from_its_declaration(grid, rows, lm):
    how = GRIDS[grid].mechanisms
    scorer = replace(how.scorer, name="slow", compiled_choice=None)
    pruner = replace(how.pruner, name="slow", fused=False)
    prefix = lm.new_cache(1, 50)
    lm.prefill(_prompt(50), prefix)

    def logits(how):
        cache, token = prefix.branch(rows, 2), torch.full((rows,), 5)
        for _ in range(2):
            found = lm.decode_step(token, cache, Action(0.3, 0.5), mechanisms=how, observe=ALL)
        return found.logits

    slow = replace(how, page_scorer=scorer, mlp_pruning=pruner)
    torch.testing.assert_close(logits(slow), logits(how), rtol=1e-3, atol=1e-3)


def test_an_empty_prefix_can_be_decoded(lm):
    cache = lm.new_cache(1, 8)
    whole = lm.new_cache(1, 8)
    hidden = lm.prefill(_prompt(3), whole)
    for position in range(3):
        output = lm.decode_step(_prompt(3)[:, position], cache)
    torch.testing.assert_close(output.logits, lm.logits(hidden[:, -1]), rtol=0, atol=1e-4)


def test_bad_arguments_are_named(lm):
    cache = lm.new_cache(2, 8)
    with pytest.raises(ShapeError, match=r"tokens \[2\]"):
        lm.decode_step(torch.tensor([1]), cache)
    with pytest.raises(ShapeError, match="actions"):
        lm.decode_step(torch.tensor([1, 1]), cache, [DENSE])
    with pytest.raises(ConfigError, match="quant_site"):
        Mechanisms(quant_site="mlp")
    with pytest.raises(ConfigError, match="quant_block must be 0 or 32, got 16"):
        Mechanisms(quant_block=16)
    with pytest.raises(ShapeError, match="prefill"):
        lm.prefill(_prompt(4), cache)
    with pytest.raises(ContextLengthError, match="256"):
        lm.prefill(_prompt(300, rows=2), cache)
    with pytest.raises(ContextLengthError, match="KV cache holds 8"):
        lm.prefill(_prompt(9, rows=2), cache)


@pytest.mark.parametrize("how", [grid.mechanisms for grid in GRIDS.values()], ids=list(GRIDS))
def test_page_readers_are_counted_beside_a_step_that_they_do_not_change(lm, how):
    """Of 41 tokens, 6 pages: all heads read all where all is kept; where 3 pages are, between 3
    and, if every head chose others, all of them."""
    prefix = lm.new_cache(1, 40)
    lm.prefill(_prompt(40), prefix)
    fed, actions = torch.tensor([5, 5]), [DENSE, Action(0.5, 1.0)]
    plain = lm.decode_step(fed, prefix.branch(2, 1), actions, mechanisms=how)
    watched = lm.decode_step(fed, prefix.branch(2, 1), actions, mechanisms=how, record={"pages"})
    assert plain.page_readers is None
    assert torch.equal(plain.logits, watched.logits)
    readers = watched.page_readers
    assert readers.shape == (2, lm.spec.num_layers, 6)
    heads = lm.spec.num_kv_heads
    assert (readers[0] == heads).all()
    read = readers[1].sum(-1).tolist()
    if how.page_budget == "need":
        assert all(heads <= total <= 6 * heads for total in read)
    elif how.page_choice == "group":
        assert set(read) == {3 * heads}
    else:
        assert all(3 * heads <= total < 6 * heads for total in read)
    tokens = torch.tensor([8, 8, 8, 8, 8, 1])
    assert torch.equal((readers * tokens).sum(-1), watched.tokens_read)
    assert torch.equal(plain.tokens_read, watched.tokens_read)


def test_grids_of_former_releases_are_read_and_not_decoded(lm):
    record = GRIDS["default"].to_dict() | {"page_budget": "count"}
    former = from_json(ActionGrid, {k: v for k, v in record.items() if k != "page_budget"})
    assert former.mechanisms.page_choice == "group"
    assert str(former).startswith("own: int4, group, both")
    with pytest.raises(ConfigError, match=r"no longer decodes: choose the grid default or paper"):
        lm.decode_step(torch.tensor([1]), lm.new_cache(1, 8), DENSE, mechanisms=former.mechanisms)
