"""Predictions: damage by the tables, zones in words, times between those that were measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol_core.actions import DENSE, Action, Budget
from sol_core.budgets.prediction import ZONE_ENDS, ZONES, predict_step
from sol_core.errors import ConfigError
from sol_core.models.step.times import StepTimes, TimesAtContext
from tests.sol_core.budgets.test_mixes import MIXES

TIMES = StepTimes(
    at=(
        TimesAtContext(200, 1.2, (1.1, 0.02), 2.0, (0.6, 0.5), 0.1),
        TimesAtContext(2000, 3.0, (1.4, 0.02), 2.2, (0.7, 0.5), 0.2),
        TimesAtContext(7000, 9.0, (2.4, 0.02), 2.4, (0.9, 0.7), 0.3),
    ),
    channels=(0.5, 1.0),
    mlp=(1.0, 2.0),
    readers=90,
)


def predicted(budget, context, times=TIMES):
    return predict_step(MIXES, times, budget, context)


def test_times_between_levels_and_contexts_follow_from_those_measured():
    short = 1.2 + 2.0 + 0.6 + 0.1
    long, longest = 3.0 + 2.2 + 0.7 + 0.2, 9.0 + 2.4 + 0.9 + 0.3
    assert TIMES.step_ms(DENSE, 200) == pytest.approx(short)
    assert TIMES.step_ms(DENSE, 2000) == pytest.approx(long)
    assert TIMES.step_ms(DENSE, 1100) == pytest.approx((short + long) / 2)
    assert TIMES.step_ms(DENSE, 7000) == pytest.approx(longest)
    assert TIMES.step_ms(DENSE, 8000) == pytest.approx(longest + (longest - long) / 5)
    assert TIMES.step_ms(DENSE, 110) == pytest.approx(short - (long - short) / 20)
    assert TIMES.step_ms(Action(0.5, 0.75), 2000) == pytest.approx(
        1.4 + 0.02 * 90 + 1.5 * 1.1 + 0.5 + 0.2
    )
    assert TIMES.step_ms(Action(1.0, 1.0, 8), 2000) == pytest.approx(long - 0.2)  # previewed head


@given(st.integers(64, 8000), st.tuples(st.floats(0.3, 1), st.floats(0.3, 1)).map(sorted))
def test_more_bytes_never_do_more_damage(context, shares):
    low, high = (max(share, MIXES.lowest_share(context)) for share in shares)
    first, second = (predicted(Budget.share(share), context) for share in (low, high))
    assert first.damage >= second.damage - 1e-12
    assert ZONES.index(first.zone) >= ZONES.index(second.zone)
    assert first.tokens_per_s == pytest.approx(
        first.speed * 1000 / TIMES.step_ms(DENSE, context), rel=1e-9
    )


@pytest.mark.parametrize("context", [100, 1290, 7000])
def test_a_share_has_the_damage_that_ends_its_zone(context):
    for place, damage in enumerate(ZONE_ENDS):
        share = MIXES.share_at(damage, context)
        at_end = predicted(Budget.share(share), context)
        assert at_end.damage == pytest.approx(damage, rel=1e-6) or at_end.damage < damage
        assert ZONES.index(at_end.zone) <= place + (at_end.damage > damage)


def test_a_budget_per_axis_adds_what_its_axes_and_bits_do():
    whole, one, other, both = (
        predicted(budget, 1000)
        for budget in (Budget(), Budget(0.3), Budget(1.0, 0.6), Budget(0.3, 0.6))
    )
    assert whole.damage == 0
    assert whole.zone == "same text"
    assert max(one.damage, other.damage) < both.damage <= one.damage + other.damage
    rounded = predict_step(MIXES, None, Budget(bit_width=4.0), 1000)
    assert rounded.damage == pytest.approx(0.18)
    assert rounded.zone == "small changes"
    assert (rounded.speed, rounded.words) == (None, "small changes (KL 0.18 nats a token)")


def test_what_cannot_be_reached_is_refused():
    with pytest.raises(ConfigError, match="at least"):
        predicted(Budget.share(0.05), 100)


def test_words_say_how_fast_it_is_and_that_this_is_an_estimate():
    fast = predicted(Budget(0.1, 0.5), 7000)
    assert fast.speed > 1.05
    assert f"{fast.speed:.1f} times the full model's speed here (estimate)" in fast.words
    assert "the full model's speed here" in predicted(Budget(), 7000).words
