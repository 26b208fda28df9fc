"""Mixes at a share of the bytes: their hull, the schedule that keeps the share, their table."""

import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.actions import DENSE, GRIDS, Action, Budget
from sol_core.budgets.mixes import DamageTable, Mix, MixTable, decoder_mixes, lower_hull
from sol_core.budgets.row_schedules import build_schedule
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.decoding.batch_scheduling import StepReads
from sol_core.decoding.cost import CostModel
from sol_core.decoding.schedules import Horizon
from sol_core.errors import ConfigError
from sol_core.fields import from_json
from sol_core.models.spec import MatrixBytes, WeightBytes
from tests.sol_core.decoding.test_cost import SMOLLM2
from tests.sol_core.observations import observed
from tests.support.tiny_models import make_tiny_lm

GRID = GRIDS["default"]
# The default model's file: 4-bit blocks, a head in 8 bits.
BLOCKS = WeightBytes(
    attention=MatrixBytes(3.4e6, 13.3e6, 4),
    gate_up=MatrixBytes(6.6e6, 26.6e6, 4),
    down=MatrixBytes(3.3e6, 13.3e6, 4),
    head=MatrixBytes(3.5e6, 28.3e6, 8),
)
COSTS = CostModel(SMOLLM2, BLOCKS, 2, GRID.page_size, GRID.mechanisms)


def made_up():
    """Damage that falls by a factor of e every 0.1 of an axis."""
    contexts = (64, 1024, 8064)

    def falling(levels, least):
        return (*(least * 2.718 ** (-10 * (level - levels[0])) for level in levels[:-1]), 0.0)

    return DamageTable(
        contexts,
        GRID.keep_fractions,
        GRID.channel_keep_ratios,
        tuple(falling(GRID.keep_fractions, 0.2) for _ in contexts),
        tuple(falling(GRID.channel_keep_ratios, 1.0) for _ in contexts),
        64,
    )


MIXES = MixTable(made_up(), COSTS, "made up")


def scheduler_of(config, steps):
    return build_schedule(config, GRID, horizon=Horizon(16, steps), mixes=MIXES)


@given(st.lists(st.tuples(st.floats(0.1, 1), st.floats(0, 2)), min_size=1, max_size=40))
def test_no_point_lies_below_the_hull(points):
    hull = lower_hull([Mix(share, damage, DENSE) for share, damage in points])
    shares, damages = [mix.share for mix in hull], [mix.damage for mix in hull]
    assert shares == sorted(set(shares))
    assert damages == sorted(set(damages), reverse=True)
    assert shares[0] == min(points)[0]
    for share, damage in points:
        assert damage >= np.interp(share, shares, damages) - 1e-9


def test_a_mix_has_the_bytes_and_the_damage_of_its_two_levels():
    how, weights = replace(GRID.mechanisms, head="preview"), replace(BLOCKS, preview=(8e6, 0.0))
    costs = CostModel(SMOLLM2, weights, 2, GRID.page_size, how)
    mixes = MixTable(made_up(), costs, "made up")
    pairs = zip(mixes.levels, made_up().at(64), strict=True)
    attention, channels = (dict(zip(*pair, strict=True)) for pair in pairs)
    dense, floor = costs.decode_step(DENSE, 64).bytes_read, mixes.floor(64)
    for mix in mixes.hull(64):
        read = costs.decode_step(mix.action, 64).bytes_read
        assert mix.share == pytest.approx(read / dense)
        lost = attention[mix.action.keep_fraction], channels[mix.action.channel_keep_ratio]
        assert mix.damage == pytest.approx(sum(lost) - min(*lost, floor))
    assert min(floor, mixes.head_share_saved(64)) > 0
    assert any(mix.action.keep_fraction == 1 for mix in mixes.hull(64)[:-1])


@settings(max_examples=40)
@given(share=st.floats(0.66, 1.0), context=st.integers(16, 7000), steps=st.integers(40, 120))
def test_static_meets_its_share(share, context, steps):
    if share < MIXES.hull(context)[0].share:
        return
    config = ScheduleConfig("static", Budget.share(share))
    scheduler = scheduler_of(config, steps)
    read = dense = 0.0
    for step in range(steps):
        action = scheduler(observed(step, cached_tokens=context + step))
        cached = context + step + 1
        read += COSTS.decode_step(action, cached).bytes_read
        dense += COSTS.decode_step(DENSE, cached).bytes_read
    assert read / dense == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        *itertools.product(["static"], [0.9, 0.93, 0.95, 1.0]),
        *itertools.product(["random"], [0.93, 0.95, 1.0]),
    ],
)
def test_a_dense_mix_at_fewer_bits_previews_the_head_and_counts_so(kind, share):
    weights = replace(BLOCKS, preview=(2e7, 600.0))
    mixes = MixTable(made_up(), replace(COSTS, weights=weights), "made up")
    config = ScheduleConfig(kind, Budget.share(share, bits=8))
    scheduler = build_schedule(config, GRID, horizon=Horizon(16, 100), mixes=mixes)
    actions = [scheduler(observed(step, cached_tokens=4000 + step)) for step in range(100)]
    spent = sum(mixes.costs.bytes_share(a, 4001 + step) for step, a in enumerate(actions)) / 100
    most = mixes.costs.bytes_share(Action(bit_width=8), 4001)
    assert most < 0.95
    assert spent == pytest.approx(min(share, most), abs=0.003 if kind == "static" else 0.01)


def test_static_makes_good_what_steps_really_read():
    """Pages by need: a step reads twice the pages that its level stands for."""
    config = ScheduleConfig("static", Budget.share(0.7))
    scheduler = scheduler_of(config, 300)
    shares, tokens_read = [], None
    for step in range(300):
        seen = observed(step, cached_tokens=4000 + step, tokens_read=tokens_read)
        action, cached = scheduler(seen), 4001 + step
        tokens_read = 90.0 * cached * min(2 * action.keep_fraction, 1.0)
        step_cost = COSTS.decode_step(action, cached, StepReads(tokens_read))
        shares.append(step_cost.bytes_read / COSTS.decode_step(DENSE, cached).bytes_read)
    assert sum(shares[50:]) / 250 == pytest.approx(0.7, abs=0.01)


def test_the_mix_moves_with_the_context():
    """Few bytes of a short context are the cache's: the MLP gives; of a long one attention."""
    short, long = MIXES.mean(0.75, 128), MIXES.mean(0.75, 7000)
    assert short.channel_keep_ratio < 0.7
    assert long.channel_keep_ratio >= 0.9
    assert long.keep_fraction < 0.7
    assert MIXES.hull(128)[-1] == Mix(1.0, 0.0, DENSE)


def test_mixes_do_not_depend_on_what_was_asked_before():
    for context in (1, 2, 16, 63, 64, 65, 900):
        fresh = MixTable(made_up(), COSTS, "made up")
        for other in (2, 16, 64):
            fresh.hull(other)
        assert fresh.hull(context) == MixTable(made_up(), COSTS, "made up").hull(context)


def test_a_share_below_all_mixes_is_refused_with_the_lowest():
    config = ScheduleConfig("static", Budget.share(0.3))
    scheduler = scheduler_of(config, 16)
    lowest = 100 * MIXES.hull(101)[0].share
    with pytest.raises(ConfigError, match=f"at least {lowest:.0f} %"):
        scheduler(observed(0, cached_tokens=100))


@pytest.mark.parametrize("kind", ["random", "emc", "dac"])
def test_uneven_schedules_spend_the_mean_of_the_mixes(kind):
    config = ScheduleConfig(kind, Budget.share(0.8, bits=10))
    scheduler = scheduler_of(config, 160)
    actions = [scheduler(observed(step, cached_tokens=2000 + step)) for step in range(160)]
    asked = MIXES.mean(0.8, 2001, 10)
    for field in ("keep_fraction", "channel_keep_ratio", "bit_width"):
        mean = sum(getattr(action, field) for action in actions) / len(actions)
        assert mean == pytest.approx(getattr(asked, field), rel=0.05)


def test_damage_is_interpolated_in_log_context_and_never_rises():
    table = DamageTable(
        (64, 256), (0.5, 0.7, 1.0), (0.5, 1.0), ((0.4, 0.5, 0.0), (0.2, 0.1, 0.0)),
        ((1.0, 0.0), (1.0, 0.0)), 8,
    )  # fmt: skip
    assert table.at(128)[0] == pytest.approx((0.3, 0.3, 0.0))
    assert table.at(1)[0] == (0.4, 0.4, 0.0)
    assert table.at(10**6)[0] == pytest.approx((0.2, 0.1, 0.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contexts": [256, 64, 1024]}, "contexts must ascend"),
        ({"attention": []}, "a finite number per context and level"),
        ({"tokens": "many"}, "tokens must be a whole number"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_a_damaged_table_is_refused(change, words):
    record = json.loads(json.dumps(asdict(made_up())))
    assert from_json(DamageTable, record) == made_up()
    with pytest.raises(ConfigError, match=words):
        from_json(DamageTable, record | change)


def test_a_budget_is_a_share_or_per_axis_and_says_which():
    shares = [0, -0.1, 1.5, float("nan"), True, "60"]
    for share in shares:
        with pytest.raises(ConfigError, match="a share of the bytes must be above 0"):
            Budget.share(share)
    with pytest.raises(ConfigError, match="not both"):
        Budget(0.5, bytes_share=0.5)
    assert Budget.share(0.605, 8).words == "60.5 % of the bytes, 8 bits"
    config = ScheduleConfig("static", Budget.share(0.6))
    whole = GenerationConfig(config)
    assert from_json(GenerationConfig, json.loads(json.dumps(whole.to_dict()))) == whole
    assert "bytes_share" not in GenerationConfig().to_dict()["schedule"]["budget"]
    with pytest.raises(ConfigError, match="takes a budget per axis here, got 60 % of the bytes"):
        build_schedule(config, GRID, horizon=Horizon(16, 16))


def test_a_share_is_the_least_that_loses_so_much():
    for context in (64, 2000, 7000):
        hull = MIXES.hull(context)
        assert MIXES.share_at(0.0, context) == 1.0
        assert MIXES.share_at(1e9, context) == hull[0].share
        for low, high in itertools.pairwise(hull):
            assert MIXES.share_at(low.damage, context) == pytest.approx(low.share)
            half = MIXES.share_at((low.damage + high.damage) / 2, context)
            assert half == pytest.approx((low.share + high.share) / 2)


def test_a_grids_mixes_are_of_its_own_levels():
    table = made_up().with_levels((0.1, 0.5, 1.0, 0.77), (0.5, 1.0))
    assert (table.keep_fractions, table.channel_keep_ratios) == ((0.1, 0.5, 1.0), (0.5, 1.0))
    places = [GRID.keep_fractions.index(level) for level in (0.1, 0.5)]
    assert table.at(64)[0] == (*(made_up().at(64)[0][place] for place in places), 0.0)


def test_mixes_are_made_once_for_a_model_and_a_grid():
    lm, other = make_tiny_lm(), make_tiny_lm(dtype=torch.bfloat16)
    made = decoder_mixes(lm, GRID)
    assert decoder_mixes(lm, GRID) is made
    assert decoder_mixes(make_tiny_lm(), GRID).hull(300) is made.hull(300)  # of the same sizes
    coarse = replace(GRID, keep_fractions=GRID.keep_fractions[::2])
    for apart in (decoder_mixes(other, GRID), decoder_mixes(lm, coarse)):
        assert apart is not made
        assert apart.hull(300) != made.hull(300)
