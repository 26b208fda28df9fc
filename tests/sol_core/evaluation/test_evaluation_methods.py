"""Baselines at matched spend: exact means over the texts, whatever the batches."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.actions import ActionGrid, Budget
from sol_core.decoding.batch_scheduling import RowSchedules, StepObservation
from sol_core.decoding.schedules import Horizon
from sol_core.evaluation.passes import BaselineSchedules, Row, split_evenly
from sol_core.evaluation.statistics import PairedBootstrap, rank_correlation

GRID = ActionGrid()
budgets = st.builds(Budget, st.floats(0.1, 1.0), st.floats(0.4, 1.0), st.floats(5.0, 16.0))
LEVEL_STEPS = np.asarray((0.1, 0.05, 1.0))


def _run(rows, spends, texts, at_once, steps=16):
    """Spend of each text and row [texts, rows, steps, 3], under made-up observations."""
    source = BaselineSchedules(spends, GRID, Horizon(16, steps), seed=7)
    found = np.zeros((texts, len(rows), steps, 3))
    generator = torch.Generator().manual_seed(0)
    for first in range(0, texts, at_once):
        count = min(at_once, texts - first)
        slots = list(product(range(first, first + count), range(len(rows))))
        scheduler = RowSchedules([source.schedule(rows[row], text) for text, row in slots])
        for step in range(steps):
            observation = StepObservation(
                step,
                torch.zeros(len(slots), dtype=torch.int64),
                (8,) * len(slots),
                hidden=torch.randn(len(slots), 6, generator=generator),
                entropy=torch.rand(len(slots), generator=generator) * 4,
            )
            actions = scheduler.next_actions(observation)
            for (text, row), action in zip(slots, actions, strict=True):
                found[text, row, step] = action.as_tuple()
    return found


@given(budget=budgets, texts=st.integers(1, 12), at_once=st.integers(1, 5))
@settings(max_examples=25)
def test_every_baseline_meets_the_spend(budget, texts, at_once):
    rows = [Row("static", 0), Row("random", 0, 0), Row("random", 0, 1), Row("emc", 0)]
    spend = _run(rows, [budget], texts, at_once).mean(axis=(0, 2))
    gaps = np.abs(spend - np.asarray(budget.as_tuple()))
    half_level = 0.5 * LEVEL_STEPS + 1e-6
    # Static and random miss by half a level in all; a steered row by as much in each text.
    assert (gaps[:3] <= half_level / (16 * texts)).all()
    assert (gaps[3] <= half_level / 16).all()


def test_planned_schedules_do_not_depend_on_the_batches_and_others_follow_signals():
    rows = [Row("static", 0), Row("static", 1), Row("random", 0, 0), Row("random", 1, 4)]
    spends = [Budget(0.53, 0.61, 7.3), Budget(0.37, 0.52, 9.9)]
    assert (_run(rows, spends, 7, 1) == _run(rows, spends, 7, 3)).all()
    for method in ("emc", "dac"):
        assert _run([Row(method, 0)], spends, 6, 2)[..., 0].std() > 0.05


def test_rows_are_cut_evenly():
    assert split_evenly(10, 10) == [(0, 10)]
    assert split_evenly(11, 10) == [(0, 5), (5, 11)]
    assert split_evenly(7, 3) == [(0, 2), (2, 4), (4, 7)]


losses = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40)
pairs = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.floats(-20, 20, width=32), min_size=n, max_size=n) for _ in range(2)]
    )
)


@given(losses, st.integers(0, 5))
def test_an_interval_contains_its_mean(values, seed):
    array = np.asarray(values)
    interval = PairedBootstrap(len(array), seed=seed).interval(array)
    assert interval.low <= interval.mean <= interval.high
    assert interval.mean == pytest.approx(float(array.mean()), abs=1e-12)
    assert array.min() - 1e-4 <= interval.low
    assert interval.high <= array.max() + 1e-4


@given(pairs)
def test_a_gain_is_antisymmetric(values):
    left, right = (np.asarray(side) for side in values)
    bootstrap = PairedBootstrap(len(left), seed=1)
    forth, back = bootstrap.interval(left - right), bootstrap.interval(right - left)
    assert forth.mean == -back.mean
    assert forth.low == pytest.approx(-back.high, abs=1e-5)
    assert forth.high == pytest.approx(-back.low, abs=1e-5)


def test_the_interval_is_as_wide_as_theory_says():
    """Of N normal values the mean's 95 % interval is ± 1.96 / √N."""
    values = np.random.default_rng(3).standard_normal(400)
    values = (values - values.mean()) / values.std()
    interval = PairedBootstrap(400, seed=0).interval(values)
    assert interval.high == pytest.approx(1.96 / 20, rel=0.08)
    assert interval.low == pytest.approx(-1.96 / 20, rel=0.08)


def test_the_seed_decides_the_resamples():
    values = np.random.default_rng(0).standard_normal(30)
    first, again, other = (PairedBootstrap(30, seed=seed).interval(values) for seed in (4, 4, 5))
    assert first == again != other


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 4000], 1.0),
        ([1, 1, 1, 1], [1, 2, 3, 4], 0.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
        # ranks 0.5 0.5 2 3 against 0 1 2.5 2.5
        ([1, 1, 2, 3], [1, 2, 5, 5], 4.0 / 4.5),
    ],
)
def test_rank_correlation(left, right, expected):
    found = rank_correlation(np.asarray(left, float), np.asarray(right, float))
    assert found == pytest.approx(expected)


@given(pairs)
def test_rank_correlation_is_symmetric_and_bounded(values):
    left, right = (np.asarray(side) for side in values)
    found = rank_correlation(left, right)
    assert -1 - 1e-9 <= found <= 1 + 1e-9
    assert found == pytest.approx(rank_correlation(right, left))
    assert found == pytest.approx(-rank_correlation(-left, right))
