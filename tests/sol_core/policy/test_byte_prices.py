"""One price on bytes: a policy's share is met, and spent where damage is greatest."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.policy_step import price_bytes
from sol_core.actions import GRIDS, Budget
from sol_core.budgets.mixes import MixTable
from sol_core.decoding.batch_scheduling import StepReads
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError, PolicyError
from sol_core.fields import from_json
from sol_core.policy.byte_prices import NUM_FEATURES, BytePrices, SampleStates, history_features
from sol_core.policy.policy import load_policy, save_policy
from sol_core.policy.scheduler import PolicyScheduler
from tests.sol_core.budgets.test_mixes import COSTS, GRID, made_up
from tests.sol_core.policy.test_policy import observe
from tests.support.tiny_policies import change_config, make_policy

CONTEXTS = (64, 700, 7000)
SHARP = np.ones(2)


@pytest.fixture(scope="module")
def mixes():
    return MixTable(made_up(), COSTS, "made up")


def made_states(spread=1.0, seed=0):
    """States without a history, of three contexts."""
    drawn = np.random.default_rng(seed).normal(0, spread, (3, 64, 2, 2)).round(4)
    history = np.zeros((NUM_FEATURES, 2, 2)).tolist()
    record = {
        "history": history,
        "trust": [1.0, 1.0],
        "contexts": CONTEXTS,
        "shapes": drawn.tolist(),
    }
    return from_json(SampleStates, record)


def no_history(rows):
    return np.zeros((rows, NUM_FEATURES))


def chosen(prices, shapes, features, shares, contexts):
    """Levels [R, axes]."""
    return price_bytes(shapes, prices.terms(features, shares, contexts)).argmax(-1)


@given(st.floats(0.2, 1.5), st.sampled_from(CONTEXTS), st.floats(0.0, 1.0), st.integers(0, 9))
@settings(max_examples=40)
def test_states_like_the_sample_read_the_share(spread, context, place, seed):
    mixes, states = MixTable(made_up(), COSTS, "made up"), made_states(spread, seed)
    prices = BytePrices(GRID, mixes, states, SHARP)
    share = mixes.lowest_share(context) + 0.02 + place * (0.98 - mixes.lowest_share(context))
    sample = states.near(context)
    found = chosen(prices, sample, no_history(64), [share] * 64, [context] * 64)
    of_axes = [np.asarray(costs) for _, costs in mixes.damage_and_bytes(context)]
    read = [costs[found[:, axis]] for axis, costs in enumerate(of_axes)]
    # A step of the choices is 1/64 of a mean, and prices and contexts are a grid.
    assert abs(1 + sum(part.mean() for part in read) - share) < 0.03


@pytest.mark.parametrize("axis", [0, 1])
def test_a_step_that_needs_an_axis_gets_more_of_it(mixes, axis):
    prices, needs = BytePrices(GRID, mixes, made_states(), SHARP), np.zeros((3, 2, 2))
    needs[:, axis, 0] = (-2.0, 0.0, 2.0)
    found = chosen(prices, needs, no_history(3), [0.8] * 3, [2000] * 3)
    assert found[0, axis] < found[1, axis] < found[2, axis]
    assert len(set(found[:, 1 - axis])) == 1


def test_what_an_episodes_history_explains_is_taken_off(mixes):
    """Shapes that only follow the history leave nothing, and choices do not follow it."""
    random = np.random.default_rng(1)
    spends = random.choice([0.3, 0.6, 1.0], (200, 16, 2))
    contexts = random.choice(CONTEXTS, 200).astype(float)
    means = np.ones_like(spends)
    means[:, 1:] = np.cumsum(spends, 1)[:, :-1] / np.arange(1, 16)[:, None]
    features = [history_features(at, means[:, at], contexts) for at in range(16)]
    weights = random.normal(size=(NUM_FEATURES, 2, 2))
    own = random.normal(0, 0.3, (200, 16, 2, 2))
    shapes = np.stack([np.einsum("rf,fas->ras", f, weights) for f in features], 1) + own
    base = 20 + random.normal(size=(200, 16))

    def log_damages(found):
        return base + found[:, :, 1, 0]

    # Damage follows half of what was foreseen beyond the history, and the rest is chance.
    foreseen = log_damages(shapes - own) + own[:, :, 1, 0] / 2
    damages = np.exp(foreseen + random.normal(0, 0.1, (200, 16)))
    states = SampleStates.of(shapes, spends, contexts, damages, log_damages)
    assert states.trust == pytest.approx((0.0, 0.5), abs=0.03)
    assert [round(at, 1) for at in states.contexts] == sorted(states.contexts)
    assert max(float(np.abs(states.near(c)).mean()) for c in CONTEXTS) < 0.4
    prices = BytePrices(GRID, mixes, states, SHARP)
    for at in (0, 15):
        explained = np.einsum("rf,fas->ras", features[at][:1], weights)
        found = chosen(prices, explained, features[at][:1], [0.8], [700])
        plain = chosen(prices, np.zeros((1, 2, 2)), no_history(1), [0.8], [700])
        assert np.abs(found - plain).max() <= 1


def test_an_axis_that_texts_disagree_about_is_trusted_less():
    """Damage follows what was foreseen in every other text only."""
    random = np.random.default_rng(2)
    shapes = random.normal(0, 0.5, (80, 16, 2, 2))
    followed = np.repeat([0.0, 1.0] * 4, 10)[:, None]

    def log_damages(found):
        return found[:, :, 1, 0]

    damages = np.exp(followed * shapes[:, :, 1, 0] + random.normal(0, 0.1, (80, 16)))
    given = shapes, np.ones((80, 16, 2)), np.full(80, 700.0), damages, log_damages
    assert SampleStates.of(*given).trust[1] == pytest.approx(0.5, abs=0.05)
    assert SampleStates.of(*given, texts=8).trust[1] == pytest.approx(0.0, abs=0.05)


def with_states(model, grid=GRID):
    policy = make_policy(model, grid=grid)
    policy.states = made_states()
    return policy, MixTable(made_up(), CostModel.of(model.lm, grid), "made up")


def test_a_scheduler_keeps_its_shares_alike_with_and_without_the_kernel(model):
    """The policy's own bytes are part of the share."""
    policy, mixes = with_states(model)
    own = policy.num_bytes / mixes.costs.decode_step(Budget(1, 1, 16), 700).bytes_read
    shares = [own + 0.85, own + 0.95]
    budgets = [Budget.share(share) for share in shares]
    fast, plain = (PolicyScheduler(policy, budgets, mixes=mixes) for _ in range(2))
    plain._few_rows = None
    read = np.zeros(2)
    for step in range(400):
        seen = replace(observe(model, 2, step), cached_tokens=(700, 7000))
        actions = fast.next_actions(seen)
        assert actions == plain.next_actions(seen)
        assert all(action.bit_width == 16 for action in actions)
        for row, (action, context) in enumerate(zip(actions, (701, 7001), strict=True)):
            dense = mixes.costs.decode_step(Budget(1, 1, 16), context).bytes_read
            cost = mixes.costs.decode_step(action, context, StepReads(observed=True)).bytes_read
            read[row] += (cost + policy.num_bytes) / dense
    assert np.abs(read / 400 - shares).max() < 0.02


def test_a_share_out_of_reach_is_refused_with_the_lowest(model):
    policy, mixes = with_states(model)
    scheduler = PolicyScheduler(policy, [Budget.share(0.05)], mixes=mixes)
    with pytest.raises(ConfigError, match="at least"):
        scheduler.next_actions(observe(model, 1, 0))


def test_levels_without_a_measured_damage_are_not_priced(model):
    """Such a policy aims at the mixes' mean per axis, as one without states does."""
    grid = replace(GRID, channel_keep_ratios=(0.33, 0.66, 1.0))
    policy, _ = with_states(model, grid)
    table = made_up().with_levels(GRID.keep_fractions, (1.0,))
    mixes = MixTable(table, CostModel.of(model.lm, grid), "made up")
    assert not BytePrices.fits(grid, mixes)
    scheduler = PolicyScheduler(policy, [Budget.share(0.95)], mixes=mixes)
    assert scheduler._bytes is None


def test_states_come_back_from_a_folder(model, tmp_path):
    policy, _ = with_states(model, GRIDS["default"])
    save_policy(policy, tmp_path / "mine")
    assert load_policy(tmp_path / "mine", model).states == policy.states
    record = json.loads((tmp_path / "mine" / "config.json").read_text("utf-8"))
    record["states"]["contexts"][0] = "x"
    change_config(tmp_path / "mine", states=record["states"])
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "mine", model)
    policy.states = None
    save_policy(policy, tmp_path / "mine")
    assert load_policy(tmp_path / "mine", model).states is None
