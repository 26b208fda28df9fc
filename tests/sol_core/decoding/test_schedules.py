"""Schedulers meet their budgets, are reproducible, and follow their signals."""

import random
import statistics
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.log_softmax import kl_to_dense
from sol_core.actions import GRIDS, ActionGrid, Budget, grid_name
from sol_core.budgets.row_schedules import build_schedule
from sol_core.config import ScheduleConfig
from sol_core.decoding.loop import kl_to_first, token_nll
from sol_core.decoding.schedules import Horizon
from tests.sol_core.observations import observed

GRID = ActionGrid()
budgets = st.builds(Budget, st.floats(0.1, 1.0), st.floats(0.4, 1.0), st.floats(5.0, 16.0))
# One level of each axis: what a mean over n steps may miss by, times n.
LEVEL_STEPS = (0.1, 0.05, 1.0)


def _run(kind, budget, steps, seed=0):
    config = ScheduleConfig(kind, budget, seed)
    scheduler = build_schedule(config, GRID, horizon=Horizon(16, steps))
    signal = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    return [
        scheduler(observed(step, torch.randn(8, generator=generator), signal.gammavariate(1, 2)))
        for step in range(steps)
    ]


def _means(actions):
    return [statistics.fmean(axis) for axis in zip(*(a.as_tuple() for a in actions), strict=True)]


@pytest.mark.parametrize("kind", ["static", "random", "emc", "dac"])
@given(budget=budgets, steps=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_schedulers_meet_budgets(kind, budget, steps, seed):
    means = _means(_run(kind, budget, steps, seed))
    for mean, target, level_step in zip(means, budget.as_tuple(), LEVEL_STEPS, strict=True):
        assert abs(mean - target) <= 0.5 * level_step / steps + 1e-6


@given(budget=budgets)
@settings(max_examples=40)
def test_static_is_close_at_every_prefix(budget):
    actions = _run("static", budget, 50)
    for steps in range(1, 51):
        means = _means(actions[:steps])
        for mean, target, level_step in zip(means, budget.as_tuple(), LEVEL_STEPS, strict=True):
            assert abs(mean - target) <= 0.5 * level_step / steps + 1e-6


def test_static_uses_only_the_two_neighbouring_levels():
    actions = _run("static", Budget(0.37, 0.62, 7.25), 200)
    assert {a.keep_fraction for a in actions} == {0.3, 0.4}
    assert {a.channel_keep_ratio for a in actions} == {0.6, 0.65}
    assert {a.bit_width for a in actions} == {7, 8}


def test_random_is_seeded_and_varied():
    budget = Budget(0.5, 0.7, 9.0)
    assert _run("random", budget, 48, seed=3) == _run("random", budget, 48, seed=3)
    assert _run("random", budget, 48, seed=3) != _run("random", budget, 48, seed=4)
    assert len({a.keep_fraction for a in _run("random", budget, 48)}) > 4


@pytest.mark.parametrize("kind", ["emc", "dac"])
def test_spend_follows_the_signal(kind):
    """Hard steps (high entropy, a jump of the hidden state) get more than easy ones."""
    budget = Budget(0.5, 0.7, 10.0)
    scheduler = build_schedule(ScheduleConfig(kind, budget), GRID, horizon=Horizon(16, 160))
    easy, hard = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    chooser = random.Random(1)
    spent = {True: [], False: []}
    hidden = easy
    for step in range(160):
        is_hard = chooser.random() < 0.3
        if is_hard:
            hidden = hard if hidden is easy else easy
        action = scheduler(observed(step, hidden, 5.0 if is_hard else 0.5))
        spent[is_hard].append(action.keep_fraction)
    assert statistics.fmean(spent[True]) > statistics.fmean(spent[False]) + 0.1


@pytest.mark.parametrize("scale", [1 / 64, 32.0])
def test_a_signal_counts_in_its_own_deviations(scale):
    def actions(factor):
        config = ScheduleConfig("emc", Budget(0.5, 0.7, 10))
        scheduler = build_schedule(config, GRID, horizon=Horizon(16, 64))
        draw = random.Random(1)
        seen = [observed(step, entropy=factor * draw.gammavariate(1, 2)) for step in range(64)]
        return [scheduler(observation) for observation in seen]

    assert actions(scale) == actions(1.0)


def test_a_grid_bears_a_name_only_with_all_its_levels_and_mechanisms():
    for name, grid in GRIDS.items():
        assert grid_name(replace(grid, quant_site="mlp_input")) == name
        assert grid_name(replace(grid, keep_fractions=(0.5, 1.0))) == "own"
        assert str(replace(grid, page_size=4)).startswith(f"own: {grid.page_scorer}, ")
    assert grid_name(replace(GRIDS["default"], page_choice="head", page_budget="count")) == "own"


SIZES = st.integers(1, 4), st.integers(1, 5), st.sampled_from([2, 300, 49152]), st.integers(0, 99)


def log_probabilities(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(6 * torch.randn(shape, generator=generator), -1)


@given(*SIZES)
def test_losses_are_their_definitions(windows, group, vocab, seed):
    dense = log_probabilities(windows, vocab, seed=seed)
    rows = log_probabilities(windows, group, vocab, seed=seed + 1)
    kl, entropy = kl_to_dense(dense, rows)
    p, q = dense.double().exp(), rows.double()
    wanted = (p[:, None] * (dense.double()[:, None] - q)).sum(-1)
    torch.testing.assert_close(kl.double(), wanted, atol=3e-5, rtol=1e-4)
    torch.testing.assert_close(entropy.double(), -(p * dense).sum(-1), atol=1e-5, rtol=1e-5)
    beside = kl_to_first(torch.cat((dense[:, None], rows), 1))
    assert bool((beside[:, 0] == 0).all())
    torch.testing.assert_close(beside[:, 1:].double(), wanted, atol=3e-5, rtol=1e-4)
    assert bool((kl >= 0).all() and (beside >= 0).all())
    targets = torch.randint(vocab, (windows,))
    assert torch.equal(token_nll(rows, targets), -rows[torch.arange(windows), :, targets])
