"""Paired statistics: hand-made truth tables and invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol_core.comparing.statistics import PairedBootstrap, rank_correlation, win_rate

losses = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40)
pairs = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.floats(-20, 20, width=32), min_size=n, max_size=n) for _ in range(2)]
    )
)


@given(losses, st.integers(0, 5))
def test_an_interval_contains_its_mean(values: list[float], seed: int) -> None:
    array = np.asarray(values)
    interval = PairedBootstrap(len(array), seed=seed).interval(array)
    assert interval.low <= interval.mean <= interval.high
    assert interval.mean == pytest.approx(float(array.mean()), abs=1e-12)
    assert array.min() - 1e-4 <= interval.low
    assert interval.high <= array.max() + 1e-4


@given(pairs)
def test_a_gain_is_antisymmetric(values: tuple[list[float], list[float]]) -> None:
    left, right = (np.asarray(side) for side in values)
    bootstrap = PairedBootstrap(len(left), seed=1)
    forth, back = bootstrap.interval(left - right), bootstrap.interval(right - left)
    assert forth.mean == -back.mean
    assert forth.low == pytest.approx(-back.high, abs=1e-5)
    assert forth.high == pytest.approx(-back.low, abs=1e-5)
    assert win_rate(left, right) + win_rate(right, left) == pytest.approx(1.0)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Of N normal values the mean's 95 % interval is ± 1.96 / √N."""
    values = np.random.default_rng(3).standard_normal(400)
    values = (values - values.mean()) / values.std()
    interval = PairedBootstrap(400, seed=0).interval(values)
    assert interval.high == pytest.approx(1.96 / 20, rel=0.08)
    assert interval.low == pytest.approx(-1.96 / 20, rel=0.08)


def test_the_seed_decides_the_resamples() -> None:
    values = np.random.default_rng(0).standard_normal(30)
    first, again, other = (PairedBootstrap(30, seed=seed).interval(values) for seed in (4, 4, 5))
    assert first == again != other


@pytest.mark.parametrize(
    ("baseline", "method", "rate"),
    [
        ([2, 2, 2, 2], [1, 1, 1, 1], 1.0),
        ([1, 1], [1, 1], 0.5),
        ([2, 1, 1, 1], [1, 1, 1, 1], 0.625),
    ],
)
def test_win_rate(baseline: list[float], method: list[float], rate: float) -> None:
    assert win_rate(np.asarray(baseline, float), np.asarray(method, float)) == rate


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
def test_rank_correlation(left: list[float], right: list[float], expected: float) -> None:
    found = rank_correlation(np.asarray(left, float), np.asarray(right, float))
    assert found == pytest.approx(expected)


@given(pairs)
def test_rank_correlation_is_symmetric_and_bounded(values: tuple[list[float], list[float]]) -> None:
    left, right = (np.asarray(side) for side in values)
    found = rank_correlation(left, right)
    assert -1 - 1e-9 <= found <= 1 + 1e-9
    assert found == pytest.approx(rank_correlation(right, left))
    assert found == pytest.approx(-rank_correlation(-left, right))
