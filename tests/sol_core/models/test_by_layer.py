"""Actions with a number per layer: what each layer reads, and that equal numbers change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.actions import DENSE, GRIDS, Action
from sol_core.errors import ConfigError
from sol_core.models import FrozenLM, StepOutput
from sol_core.models.signals import Observe
from tests.support.tiny_models import make_tiny_lm

KEEP, CHANNELS = (0.2, 0.9), (0.35, 0.8)
BY_LAYER = Action(KEEP, CHANNELS, 8)
FAMILIES = ["llama3-rope", "gemma3", "gemma2"]  # one window, two, and two on the reference alone


def _lm(family="llama3-rope", dtype=torch.float32):
    return make_tiny_lm(family, dtype=dtype)


def _reference(lm):
    plain = FrozenLM(lm.spec, lm.weights)
    plain.__dict__["_few_rows"] = None  # the cached property, decided
    return plain


def _step(lm, actions, grid="default", **options):
    prefix = lm.new_cache(1, 50)
    tokens = torch.randint(3, 199, (1, 50), generator=torch.Generator().manual_seed(1))
    lm.prefill(tokens, prefix)
    cache = prefix.branch(len(actions), 2)
    how = GRIDS[grid].mechanisms
    for token in (5, 9):
        fed = torch.full((len(actions),), token)
        found = lm.decode_step(fed, cache, actions, mechanisms=how, **options)
    return found


def _differing(found, expected):
    pairs = {
        name: (getattr(found, name), getattr(expected, name))
        for name in StepOutput.__dataclass_fields__
    }
    return {
        name
        for name, (one, other) in pairs.items()
        if (one is None) != (other is None) or (one is not None and not torch.equal(one, other))
    }


def _spread(action, layers=2):
    """The same action with equal numbers by layer."""
    return Action([action.keep_fraction] * layers, [action.channel_keep_ratio] * layers,
                  action.bit_width)  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_equal_numbers_are_the_single_number_to_the_bit(family, dtype, grid):
    lm = _lm(family, dtype)

    @given(
        actions=st.lists(
            st.builds(
                Action,
                st.sampled_from([0.1, 0.3, 0.7, 1.0]),
                st.sampled_from([0.3, 0.65, 1.0]),
                st.sampled_from([4, 8, 16]),
            ),
            min_size=1,
            max_size=3,
        ),
        spread=st.lists(st.booleans(), min_size=3, max_size=3),
        observe=st.sampled_from([Observe.NOTHING, Observe.CONCENTRATION]),
    )
    @settings(max_examples=12)
    def check(actions, spread, observe):
        listed = [_spread(one) if some else one for one, some in zip(actions, spread, strict=False)]
        expected = _step(lm, actions, grid, observe=observe)
        assert not _differing(_step(lm, listed, grid, observe=observe), expected)

    check()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_reads_by_its_own_number(family, grid):
    """What enters the first layer is the same, so its reads are those of its number for all; a
    layer that keeps all reads all."""
    lm, how = _lm(family), {"record": {"pages"}}
    both = [
        _step(lm, [Action(keep_by_layer)], grid, **how)
        for keep_by_layer in ((0.2, 1.0), (1.0, 0.2), 0.2, 1.0)
    ]
    first, last, every, dense = (found.page_readers[0] for found in both)
    assert torch.equal(first[0], every[0])
    assert torch.equal(first[1], dense[1])
    assert torch.equal(last[0], dense[0])
    assert last[1].sum() < dense[1].sum()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_layers_mlp_keeps_its_own_channels(family, grid):
    """The streams that leave the layers: as under one number until a layer's differs."""
    lm, how = _lm(family), {"record": {"hidden"}}
    ratios = ((0.4, 1.0), (1.0, 0.4), 0.4, 1.0)
    found = [_step(lm, [Action(1.0, ratio)], grid, **how).hidden_states[0] for ratio in ratios]
    first, last, every, dense = found
    assert torch.equal(first[1], every[1])
    assert not torch.equal(first[2], every[2])
    # The reference sums all channels in another order where another layer drops some.
    torch.testing.assert_close(last[1], dense[1], rtol=1e-4, atol=1e-4)
    assert (last[2] - dense[2]).abs().max() > 1e-2


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("family", ["llama3-rope", "gemma3"])
def test_the_compiled_step_is_the_references(family, grid):
    lm = _lm(family)
    found, expected = (_step(one, [BY_LAYER], grid) for one in (lm, _reference(lm)))
    assert lm._few_rows is not None
    assert torch.equal(found.tokens_read, expected.tokens_read)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("grid", GRIDS)
def test_rows_with_other_lists_do_not_feel_each_other(grid, dtype):
    lm = _lm(dtype=dtype)
    actions = [
        BY_LAYER,
        DENSE,
        Action(0.3, 0.5),
        Action(KEEP, 0.5),
        Action(1.0, CHANNELS),
    ]
    together = _step(lm, actions, grid)
    for row, action in enumerate(actions):
        alone = _step(lm, [action], grid)
        assert torch.equal(together.logits[row], alone.logits[0])
        assert torch.equal(together.tokens_read[row], alone.tokens_read[0])


def test_the_wrong_number_of_layers_is_named():
    message = "MLP kept must be one number, or 2, one per layer of the model, got 3"
    with pytest.raises(ConfigError, match=message):
        _step(_lm(), [Action(0.5, [0.5, 0.6, 0.7])])
